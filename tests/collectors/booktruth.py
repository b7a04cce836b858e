"""A market whose every state is known, and what each venue says of it on the wire."""

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from collectors.exchanges.binance.books import (
    FuturesBook,
    SpotBook,
    decode_futures,
    decode_spot,
)
from collectors.exchanges.bybit.books import BybitBook, decode_book
from collectors.keptbook import KeptBook, Want
from collectors.marketdata import Quote
from collectors.venues import DepthSnapshot, Level

AT = datetime(2025, 3, 3, 9, tzinfo=UTC)
AT_MS = 1_740_992_400_000
SYMBOL = "BTCUSDT"
Sides = tuple[dict[float, float], dict[float, float]]
Changes = tuple[dict[float, float], dict[float, float]]


class Market:
    """`steps` changes of a book of about `levels` levels a side, quoted in tenths."""

    def __init__(self, steps: int, *, seed: int = 1, levels: int = 30) -> None:
        draw = random.Random(seed)
        mid = 10_000
        bids = {(mid - 1 - rank) / 10: self.size(draw) for rank in range(levels)}
        asks = {(mid + 1 + rank) / 10: self.size(draw) for rank in range(levels)}
        self.start: Sides = bids, asks
        self.changes: list[Changes] = []
        self.states: list[Sides] = []  # after each change
        for _ in range(steps):
            new_bids, new_asks = dict(bids), dict(asks)
            for side, other, step in ((new_bids, new_asks, -1), (new_asks, new_bids, 1)):
                touch = min(other) if step < 0 else max(other)
                for _ in range(draw.randint(1, 4)):
                    price = round((min(side) if step > 0 else max(side)) * 10)
                    price += step * min(int(draw.expovariate(0.15)), levels - 1) - step
                    if (price / 10 - touch) * step <= 0:
                        continue
                    if draw.random() < 0.3 and len(side) > levels // 2:
                        side.pop(price / 10, None)
                    else:
                        side[price / 10] = self.size(draw)
            # A side that stays as it is says so: each message then has something to say.
            self.changes.append((self.changed(bids, new_bids), self.changed(asks, new_asks)))
            bids, asks = new_bids, new_asks
            self.states.append((bids, asks))

    @staticmethod
    def size(draw: random.Random) -> float:
        return round(draw.expovariate(1.0) + 0.001, 3)

    @staticmethod
    def changed(old: dict[float, float], new: dict[float, float]) -> dict[float, float]:
        gone = {price: 0.0 for price in old if price not in new}
        return gone | {price: size for price, size in new.items() if old.get(price) != size}


def rows(side: dict[float, float]) -> list[list[str]]:
    return [[f"{price:.2f}", f"{size:.3f}"] for price, size in side.items()]


def raw(message: Any) -> bytes:
    return json.dumps(message).encode()


@dataclass
class Venue(ABC):
    """What a venue says of a market: `message(i)` is that of its i-th change."""

    market: Market
    exchange: ClassVar[str]
    first_id: ClassVar[int] = 1_000

    @abstractmethod
    def book(self) -> KeptBook:
        """A book of the venue that has seen nothing."""

    @abstractmethod
    def message(self, number: int) -> bytes:
        """What the venue sends of the i-th change."""

    @abstractmethod
    def take(self, book: KeptBook, message: bytes) -> bool:
        """Give a message to a book; whether it took it."""

    @abstractmethod
    def last_id(self, number: int) -> int:
        """The update id after the i-th change; of the start for -1."""

    @abstractmethod
    def remedy(self, number: int) -> Callable[[KeptBook], object]:
        """What makes a book whole again, as the venue gives it after the i-th change."""

    def states(self) -> dict[int, Sides]:
        """The true book by update id."""
        return {self.last_id(i): state for i, state in enumerate(self.market.states)}

    def snapshot(self, number: int) -> DepthSnapshot:
        bids, asks = self.market.states[number] if number >= 0 else self.market.start
        return DepthSnapshot(
            exchange=self.exchange,
            symbol=SYMBOL,
            sequence=self.last_id(number),
            bids=tuple(Level(*each) for each in sorted(bids.items(), reverse=True)),
            asks=tuple(Level(*each) for each in sorted(asks.items())),
        )

    def quote(self, number: int) -> Quote:
        """The top after the i-th change."""
        bids, asks = self.market.states[number]
        return quote(self.last_id(number), (max(bids), bids[max(bids)], min(asks), asks[min(asks)]))


def quote(sequence: int, top: tuple[float, float, float, float]) -> Quote:
    return Quote(
        exchange="binance",
        symbol=SYMBOL,
        best_bid=top[0],
        bid_quantity=top[1],
        best_ask=top[2],
        ask_quantity=top[3],
        event_time=AT,
        received_at=AT,
        sequence=sequence,
    )


@dataclass
class Binance(Venue):
    """Diffs of some ids each."""

    sizes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        draw = random.Random(2)
        self.sizes = [draw.randint(1, 9) for _ in self.market.changes]
        self.ends = [self.first_id + sum(self.sizes[: i + 1]) for i in range(len(self.sizes))]

    def last_id(self, number: int) -> int:
        return self.ends[number] if number >= 0 else self.first_id

    def event(self, number: int) -> dict[str, Any]:
        bids, asks = self.market.changes[number]
        return {
            "e": "depthUpdate",
            "E": AT_MS + 100 * number,
            "s": SYMBOL,
            "U": self.last_id(number - 1) + 1,
            "u": self.last_id(number),
            "b": rows(bids),
            "a": rows(asks),
        }

    def message(self, number: int) -> bytes:
        return raw({"stream": "btcusdt@depth@100ms", "data": self.event(number)})

    def remedy(self, number: int) -> Callable[[KeptBook], object]:
        snapshot = self.snapshot(number)
        return lambda book: book.take_snapshot(snapshot)


class Spot(Binance):
    exchange = "binance_spot"

    def book(self) -> SpotBook:
        return SpotBook(self.exchange, SYMBOL)

    def take(self, book: KeptBook, message: bytes) -> bool:
        assert isinstance(book, SpotBook)
        return book.take(decode_spot(message).data)


class Futures(Binance):
    """Ids are shared with other symbols: a diff begins some ids after the one before."""

    exchange = "binance"

    def event(self, number: int) -> dict[str, Any]:
        event = super().event(number) | {"pu": self.last_id(number - 1), "T": AT_MS}
        event["U"] = min(event["U"] + number % 3, event["u"])
        return event

    def book(self) -> FuturesBook:
        return FuturesBook(self.exchange, SYMBOL)

    def take(self, book: KeptBook, message: bytes) -> bool:
        assert isinstance(book, FuturesBook)
        return book.take(decode_futures(message).data)


class Bybit(Venue):
    """Message 0 is the snapshot that opens the topic."""

    exchange = "bybit"

    def last_id(self, number: int) -> int:
        return self.first_id + number

    def message(self, number: int, kind: str = "") -> bytes:
        kind = kind or ("delta" if number else "snapshot")
        bids, asks = (self.market.states if kind == "snapshot" else self.market.changes)[number]
        data = {"s": SYMBOL, "b": rows(bids), "a": rows(asks), "u": self.last_id(number)}
        return raw(
            {
                "topic": f"orderbook.200.{SYMBOL}",
                "type": kind,
                "ts": AT_MS + 100 * number,
                "data": data | {"seq": 7 * number},
            }
        )

    def book(self) -> BybitBook:
        return BybitBook(self.exchange, SYMBOL)

    def take(self, book: KeptBook, message: bytes) -> bool:
        assert isinstance(book, BybitBook)
        return book.take(decode_book(message))

    def remedy(self, number: int) -> Callable[[KeptBook], object]:
        return lambda book: self.take(book, self.message(number, "snapshot"))


VENUES: list[type[Venue]] = [Spot, Futures, Bybit]
BINANCE: list[type[Binance]] = [Spot, Futures]
WANTED = (Want.SNAPSHOT, Want.RESUBSCRIBE)


def synced(venue: Venue, upto: int) -> KeptBook:
    """A synchronised book that has taken the messages to `upto`."""
    book = venue.book()
    venue.take(book, venue.message(0))
    if isinstance(venue, Binance):
        assert book.want is Want.SNAPSHOT
        venue.take(book, venue.message(1))
        assert book.take_snapshot(venue.snapshot(1)) == isinstance(venue, Futures)
    for number in range(2 if isinstance(venue, Binance) else 1, upto + 1):
        venue.take(book, venue.message(number))
    assert book.is_synced
    assert book.want is Want.NOTHING
    return book


def is_true(book: KeptBook, states: dict[int, Sides]) -> bool:
    """Whether a served book is the true one of its sequence, level for level."""
    view = book.view(1_000)
    assert view is not None
    bids, asks = states[view.sequence]
    assert view.bids == sorted(bids.items(), reverse=True)
    assert view.asks == sorted(asks.items())
    return True
