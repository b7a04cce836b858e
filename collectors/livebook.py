"""One book as every process reads it: the value behind `orderbook:{exchange}:{symbol}`. Pure.

The stream process writes it, the API, the sockets and the live page read it. Whoever reads judges
it first (`judge`): what is missing, cannot be read or has not moved for long is said to be so, and
its prices are left out.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from collectors.marketdata import Quote

# Levels of each side that the value may hold.
MOST_LEVELS = 50
# Wall time after which a book that says nothing is not believed any more: whoever wrote it would
# have noticed a silence of its venue, so it is gone itself.
SILENT = timedelta(seconds=30)
# A stream process says every few seconds of each book, moved or not, that it still stands.
UNSAID = timedelta(seconds=12)

NOT_STREAMED = "not streamed"
NO_BOOK = "no order book is kept, only its best prices"
GONE_SILENT = f"nothing new for more than {SILENT.total_seconds():.0f} s"
GONE_UNSAID = f"its stream process has said nothing for more than {UNSAID.total_seconds():.0f} s"
UNREADABLE = "the value in Redis cannot be read"
UNREACHABLE = "Redis does not answer"

Levels = tuple[tuple[float, float], ...]


class BookHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How the book has been kept since the stream process began to follow it.

    `withheld_s` are wall seconds in which it was not served, `latency_ms` is the median of the
    last seconds from the venue's stamp to us, null when market time runs faster than wall time.
    """

    synced_since: datetime | None = None
    withheld_s: float = 0.0
    gaps: int = 0
    crossings: int = 0
    resyncs: int = 0
    malformed: int = 0
    messages_per_s: float = 0.0
    latency_ms: float | None = None


class LiveBook(msgspec.Struct, frozen=True, kw_only=True):
    """A book, its levels as (price, quantity), best first, at most MOST_LEVELS of each side.

    While it is not synchronised there are no levels, `reason` says why, and the best prices are
    those that the venue sends apart from the book; they are null where nothing is known. Prices in
    quote units; `imbalance` from -1 (all asks) to 1 over the levels; `depth_bps` by "10" and "50"
    the (bid, ask) notional within so many basis points of the mid price, null where the book is
    not known that far. `event_time` is market time, `received_at` wall time,
    and `said_at` the wall time at which the stream process last stood by the value.
    """

    exchange: str
    symbol: str
    best_bid: float | None = None
    bid_quantity: float | None = None
    best_ask: float | None = None
    ask_quantity: float | None = None
    event_time: datetime | None = None
    received_at: datetime | None = None
    said_at: datetime | None = None
    sequence: int | None = None
    is_synced: bool = False
    reason: str = ""
    bids: Levels = ()
    asks: Levels = ()
    mid_price: float | None = None
    spread_bps: float | None = None
    imbalance: float | None = None
    depth_bps: dict[str, tuple[float | None, float | None] | None] = {}
    health: BookHealth = BookHealth()


_decoder = msgspec.json.Decoder(LiveBook)


def judge(raw: bytes | None, *, exchange: str, symbol: str, now: datetime) -> LiveBook:
    """What may be told of a stored value at `now` (wall time); raises nothing."""
    if raw is None:
        return LiveBook(exchange=exchange, symbol=symbol, reason=NOT_STREAMED)
    try:
        book = _decoder.decode(raw)
    except (ValueError, RecursionError):
        return LiveBook(exchange=exchange, symbol=symbol, reason=UNREADABLE)
    if (book.exchange, book.symbol) != (exchange, symbol) or not _is_possible(book):
        return LiveBook(exchange=exchange, symbol=symbol, reason=UNREADABLE)
    if is_silent(book, now=now):
        gone = GONE_SILENT if _has_not_moved(book, now) else GONE_UNSAID
        return silenced(book, "; ".join(filter(None, (book.reason, gone))))
    if book.is_synced:
        return book
    return msgspec.structs.replace(book, bids=(), asks=(), reason=book.reason or NO_BOOK)


def is_silent(book: LiveBook, *, now: datetime) -> bool:
    """Whether the book has not moved for longer than its stream would be quiet about, or nobody
    has said for long that it still stands."""
    return _has_not_moved(book, now) or (book.said_at is not None and now - book.said_at > UNSAID)


def silenced(book: LiveBook, reason: str) -> LiveBook:
    """The book without its prices, which are too old to be told; its times and counts stay."""
    return LiveBook(
        exchange=book.exchange,
        symbol=book.symbol,
        event_time=book.event_time,
        received_at=book.received_at,
        said_at=book.said_at,
        sequence=book.sequence,
        reason=reason,
        health=book.health,
    )


def cut(book: LiveBook, levels: int) -> LiveBook:
    """The book with the best `levels` of each side."""
    if len(book.bids) <= levels and len(book.asks) <= levels:
        return book
    return msgspec.structs.replace(book, bids=book.bids[:levels], asks=book.asks[:levels])


def _has_not_moved(book: LiveBook, now: datetime) -> bool:
    return book.received_at is not None and now - book.received_at > SILENT


def _is_possible(book: LiveBook) -> bool:
    times = (book.event_time, book.received_at, book.said_at, book.health.synced_since)
    if any(moment is not None and moment.tzinfo is None for moment in times):
        return False
    values = (book.best_bid, book.bid_quantity, book.best_ask, book.ask_quantity)
    if book.is_synced and (None in values or book.received_at is None):
        return False
    return all(value is None or value > 0 for value in values)


def top_of(book: LiveBook) -> Quote | None:
    """The best prices of a synchronised book; None of one that has none to trust."""
    if (
        not book.is_synced
        or book.best_bid is None
        or book.bid_quantity is None
        or book.best_ask is None
        or book.ask_quantity is None
        or book.event_time is None
        or book.received_at is None
    ):
        return None
    return Quote(
        exchange=book.exchange,
        symbol=book.symbol,
        best_bid=book.best_bid,
        bid_quantity=book.bid_quantity,
        best_ask=book.best_ask,
        ask_quantity=book.ask_quantity,
        event_time=book.event_time,
        received_at=book.received_at,
        sequence=book.sequence or 0,
    )
