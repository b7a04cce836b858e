"""What is said of the books that a process follows: the values to publish, and their downtimes.
Pure.

All moments are wall time, given by the caller.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from collectors.bookhours import BookState, Downtime
from collectors.clock import MarketClock
from collectors.keptbook import KeptBook
from collectors.livebook import MOST_LEVELS, BookHealth, LiveBook
from collectors.marketdata import Quote, from_ms

BPS = 10_000.0
DEPTHS_BPS = (10.0, 50.0)
# A book that does not move is said again so often, for its health and its age.
SAY_AGAIN = timedelta(seconds=5)
RATE_WINDOW = timedelta(seconds=5)
LATENCIES_KEPT = 50

BookKey = tuple[str, str]  # exchange, symbol


@dataclass
class _Followed:
    """One book; the counts of the KeptBook objects that came before the present one are summed."""

    since: datetime
    book: KeptBook | None = None
    quote: Quote | None = None
    downtime: Downtime | None = None
    withheld_s: float = 0.0
    synced_since: datetime | None = None
    times_synced: int = 0
    earlier: dict[str, int] = field(default_factory=dict)
    said: tuple[object, ...] = ()
    value: LiveBook | None = None
    said_at: datetime | None = None
    rate_from: tuple[datetime, int] | None = None
    messages_per_s: float = 0.0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))

    def count(self, name: str) -> int:
        """`gaps`, `crossings`, `malformed` or `messages` since the book is followed."""
        present: int = getattr(self.book, name) if self.book is not None else 0
        return self.earlier.get(name, 0) + present


class BookDesk:
    """`on_downtime` is told when a downtime begins, and again when it ends. The venue's stamps
    are market time, by `market`; where it does not run like wall time no latency is told."""

    def __init__(self, *, on_downtime: Callable[[Downtime], None], market: MarketClock) -> None:
        self._on_downtime = on_downtime
        self._market = market
        self._followed: dict[BookKey, _Followed] = {}

    def follow(self, keys: Collection[BookKey], at: datetime) -> list[BookKey]:
        """Follow these books from `at` on and no others; gives those that are dropped."""
        dropped = [key for key in self._followed if key not in keys]
        for key in dropped:
            entry = self._followed.pop(key)
            self._end_downtime(entry, at)
        for key in keys:
            if key not in self._followed:
                entry = self._followed[key] = _Followed(at)
                self._begin_downtime(entry, key, "not yet synchronised", at)
        return dropped

    def take_book(self, book: KeptBook, at: datetime) -> None:
        """The book has begun, lost or found its place."""
        key = (book.exchange, book.symbol)
        entry = self._followed.get(key)
        if entry is None:
            return
        if entry.book is not book:
            for name in ("gaps", "crossings", "malformed", "messages"):
                entry.earlier[name] = entry.count(name)
            entry.book = book
        if book.is_synced:
            if entry.downtime is not None:
                self._end_downtime(entry, at)
                entry.synced_since = at
                entry.times_synced += 1
        elif entry.downtime is None:
            self._begin_downtime(entry, key, book.reason, at)

    def take_top(self, quote: Quote) -> None:
        """The newest best prices of the venue's own channel."""
        entry = self._followed.get((quote.exchange, quote.symbol))
        if entry is not None:
            entry.quote = quote

    def due(self, at: datetime) -> list[LiveBook]:
        """The values that have changed since they were last given, or are due to be said again."""
        found: list[LiveBook] = []
        for key, entry in self._followed.items():
            says = self._says(entry)
            # A clock that was set back makes late at once what would wait for it.
            is_late = entry.said_at is None or not entry.said_at <= at < entry.said_at + SAY_AGAIN
            if says != entry.said or is_late:
                entry.said, entry.said_at = says, at
                entry.value = msgspec.structs.replace(self._value(key, entry, at), said_at=at)
                found.append(entry.value)
        return found

    def say_again(self, keys: Iterable[BookKey]) -> None:
        """Nobody has heard what was given last of these books: it is due at once."""
        for key in keys:
            entry = self._followed.get(key)
            if entry is not None:
                entry.said_at = None

    def states(self) -> Iterator[tuple[BookKey, BookState]]:
        """What the statistics of each book are made of, as it was last said."""
        for key, entry in self._followed.items():
            value = entry.value
            if value is not None:
                yield (
                    key,
                    BookState(
                        is_synced=value.is_synced,
                        spread_bps=value.spread_bps,
                        depth_10_bps=_whole(value.depth_bps.get("10")),
                        depth_50_bps=_whole(value.depth_bps.get("50")),
                        messages=entry.count("messages"),
                        gaps=value.health.gaps,
                        resyncs=value.health.resyncs,
                    ),
                )

    # -- Downtimes -------------------------------------------------------------------------

    def _begin_downtime(self, entry: _Followed, key: BookKey, reason: str, at: datetime) -> None:
        entry.synced_since = None
        entry.downtime = Downtime(*key, at, None, reason)
        self._on_downtime(entry.downtime)

    def _end_downtime(self, entry: _Followed, at: datetime) -> None:
        if entry.downtime is None:
            return
        ended_at = max(at, entry.downtime.began_at)  # the clock may have been set back
        entry.withheld_s += (ended_at - entry.downtime.began_at).total_seconds()
        self._on_downtime(entry.downtime._replace(ended_at=ended_at))
        entry.downtime = None

    # -- Values ----------------------------------------------------------------------------

    def _says(self, entry: _Followed) -> tuple[object, ...]:
        book, quote = entry.book, entry.quote
        if book is not None and book.is_synced:
            return (id(book), book.sequence)
        return (book.reason if book else "", quote.sequence if quote else None)

    def _value(self, key: BookKey, entry: _Followed, at: datetime) -> LiveBook:
        exchange, symbol = key
        health = self._health(entry, at)
        book, quote = entry.book, entry.quote
        view = book.view(MOST_LEVELS) if book is not None else None
        if book is None or view is None:
            reason = book.reason if book is not None else "not connected"
            if quote is None:
                return LiveBook(exchange=exchange, symbol=symbol, reason=reason, health=health)
            mid_price = (quote.best_bid + quote.best_ask) / 2
            return LiveBook(
                exchange=exchange,
                symbol=symbol,
                best_bid=quote.best_bid,
                bid_quantity=quote.bid_quantity,
                best_ask=quote.best_ask,
                ask_quantity=quote.ask_quantity,
                event_time=quote.event_time,
                received_at=quote.received_at,
                sequence=quote.sequence,
                reason=reason,
                mid_price=mid_price,
                spread_bps=(quote.best_ask - quote.best_bid) / mid_price * BPS,
                health=health,
            )
        received_at = book.received_at or at
        levels = book.book
        (best_bid, bid_quantity), (best_ask, ask_quantity) = view.bids[0], view.asks[0]
        if quote is not None and quote.received_at > received_at:
            # A quiet book is as new as the venue's word that these are the best prices. Where it
            # says others, the book's own messages have stopped coming, and it grows old.
            says = (quote.best_bid, quote.bid_quantity, quote.best_ask, quote.ask_quantity)
            if says == (best_bid, bid_quantity, best_ask, ask_quantity):
                received_at = quote.received_at
        return LiveBook(
            exchange=exchange,
            symbol=symbol,
            best_bid=best_bid,
            bid_quantity=bid_quantity,
            best_ask=best_ask,
            ask_quantity=ask_quantity,
            event_time=from_ms(view.event_ms),
            received_at=received_at,
            sequence=view.sequence,
            is_synced=True,
            bids=tuple(view.bids),
            asks=tuple(view.asks),
            mid_price=(best_bid + best_ask) / 2,
            spread_bps=(best_ask - best_bid) / ((best_bid + best_ask) / 2) * BPS,
            imbalance=levels.imbalance(MOST_LEVELS),
            depth_bps={f"{bps:g}": levels.depth(bps) for bps in DEPTHS_BPS},
            health=health,
        )

    def _health(self, entry: _Followed, at: datetime) -> BookHealth:
        withheld_s = entry.withheld_s
        if entry.downtime is not None:
            withheld_s += max((at - entry.downtime.began_at).total_seconds(), 0.0)
        return BookHealth(
            synced_since=entry.synced_since,
            withheld_s=round(withheld_s, 3),
            gaps=entry.count("gaps"),
            crossings=entry.count("crossings"),
            resyncs=max(entry.times_synced - 1, 0),
            malformed=entry.count("malformed"),
            messages_per_s=self._rate(entry, at),
            latency_ms=self._latency(entry),
        )

    def _rate(self, entry: _Followed, at: datetime) -> float:
        messages = entry.count("messages")
        if entry.rate_from is None or at < entry.rate_from[0]:
            entry.rate_from = (at, messages)
        began, before = entry.rate_from
        if at - began >= RATE_WINDOW:
            entry.messages_per_s = round((messages - before) / (at - began).total_seconds(), 1)
            entry.rate_from = (at, messages)
        return entry.messages_per_s

    def _latency(self, entry: _Followed) -> float | None:
        book = entry.book
        if self._market.speed != 1 or book is None or book.received_at is None:
            return None
        if book.is_synced:
            age = self._market.market(book.received_at) - from_ms(book.event_ms)
            entry.latencies.append(age / timedelta(milliseconds=1))
        return round(statistics.median(entry.latencies), 1) if entry.latencies else None


def _whole(
    depth: tuple[float | None, float | None] | None,
) -> tuple[float, float] | None:
    """A depth that is known on both sides."""
    if depth is None or depth[0] is None or depth[1] is None:
        return None
    return depth[0], depth[1]
