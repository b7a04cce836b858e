"""An order book that is kept in step with its venue, and never served when it may be wrong. Pure.

A venue's rule of continuity is a subclass in the venue's folder. Every message is checked against
it; one that is missing, doubled or out of order is noticed at the next message, and from then on
the book is withheld until it has been made anew from a snapshot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

from collectors.marketdata import Quote
from collectors.orderbook import Levels, OrderBook
from collectors.venues import DepthSnapshot

REMEMBERED_TOPS = 512
MOST_MISMATCHES = 3


class Want(StrEnum):
    """What would make a withheld book whole again, or a synchronised one known further."""

    NOTHING = ""
    SNAPSHOT = "snapshot"  # over REST, given to `take_snapshot`
    RESUBSCRIBE = "resubscribe"  # the venue opens every subscription with a snapshot
    WAIT = "wait"  # for messages that are on their way


class BookView(msgspec.Struct, frozen=True, kw_only=True):
    """A synchronised book at one moment: levels as (price, quantity), best first. `event_ms` is
    the venue's stamp, epoch milliseconds of market time."""

    exchange: str
    symbol: str
    sequence: int
    event_ms: int
    bids: Sequence[tuple[float, float]]
    asks: Sequence[tuple[float, float]]


class Top(NamedTuple):
    """The best prices and quantities as of an update id."""

    sequence: int
    prices: tuple[float, float, float, float]  # bid, its quantity, ask, its quantity


class KeptBook(ABC):
    """The common part: state and counts. Not to be shared by threads.

    `sequence` is the venue's id of the last applied update, 0 before the first. A synchronised
    book may want a snapshot too: it is right, and not known far enough.
    """

    # How many levels the snapshots are to be asked for that `take_snapshot` is given.
    snapshot_levels = 1000
    # Whether REST snapshots and the channel of best prices count updates as the book does, so that
    # it can be compared with them.
    is_comparable = False

    def __init__(self, exchange: str, symbol: str, *, window: int | None = None) -> None:
        self.exchange = exchange
        self.symbol = symbol
        self.book = OrderBook(window)
        self.is_synced = False
        self.reason = "not yet synchronised"
        self.want = Want.WAIT
        self.sequence = 0
        self.event_ms = 0
        self.received_at: datetime | None = None  # the last message, wall time
        self.messages = 0
        self.gaps = 0  # continuity broken
        self.crossings = 0
        self.malformed = 0
        self.resyncs = 0  # times it became whole again after having been
        self.checks = 0  # fresh snapshots that it was compared with, and agreed
        self._was_synced = False
        # With so few levels before an edge, a synchronised book wants a new snapshot. A window
        # never gets scarce: the venue fills it.
        self._scarce = 0
        self._tops: deque[Top] | None = None  # of the venue's own channel, oldest first
        self._unconfirmed: Top | None = None  # ours, until the channel has gone past it
        self._mismatches = 0
        self._mismatched_at = -1

    @abstractmethod
    def take_snapshot(self, snapshot: DepthSnapshot) -> bool:
        """Go on from a REST snapshot and the messages that came meanwhile; True when the book is
        synchronised now. One that is older than those messages reach back leaves the want as it
        is; one that is newer is held until they have come. A book that is synchronised already is
        checked against it as by `check_against`. Raises ValueError for another symbol's."""

    @abstractmethod
    def expect_snapshot(self) -> None:
        """A snapshot is about to be asked for: keep the messages from now on. Needed before
        `check_against`; a book that wants a snapshot does so by itself."""

    @abstractmethod
    def check_against(self, snapshot: DepthSnapshot) -> bool | None:
        """Whether a synchronised book agrees with a REST snapshot in all levels that both know; one
        that does is known as far as the snapshot from then on, one that does not is withheld. None
        where they cannot be compared, or not yet: a snapshot that is newer than the book is held,
        and compared when the book comes past it. Raises ValueError for another symbol's."""

    @abstractmethod
    def withhold(self, reason: str) -> None:
        """Serve the book no more until it is made anew: its connection is lost, it is silent, a
        check failed."""

    @abstractmethod
    def adopt(self, other: KeptBook) -> bool:
        """Go on from another connection's synchronised book of the same symbol, where this one's
        messages join its; True when that made this book synchronised. The other is not changed."""

    def view(self, levels: int) -> BookView | None:
        """The best `levels` of each side; None while the book is withheld."""
        if not self.is_synced:
            return None
        return BookView(
            exchange=self.exchange,
            symbol=self.symbol,
            sequence=self.sequence,
            event_ms=self.event_ms,
            bids=self.book.best_bids(levels),
            asks=self.book.best_asks(levels),
        )

    def check_top(self, quote: Quote) -> bool:
        """Compare the book with its venue's channel of best prices, whose quotes carry the book's
        own update ids; True when that has made it withheld.

        The last quote at or below the id of the book must be the book's top, once a later quote
        has shown that it was the last. A quote that got lost looks like a difference too, so that
        only three in a row count, and one quote is no more than one.
        """
        if self._tops is None:
            self._tops = deque(maxlen=REMEMBERED_TOPS)
        tops, ours = self._tops, self._unconfirmed
        if tops and quote.sequence <= tops[-1].sequence:
            return False
        tops.append(Top(quote.sequence, _prices(quote)))
        if ours is None or ours.sequence > quote.sequence:
            return False
        self._unconfirmed = None
        if ours.sequence == quote.sequence:
            return self._compare(ours, tops[-1])
        return len(tops) > 1 and self._compare(ours, tops[-2])

    def _remember_top(self, tops: deque[Top]) -> bool:
        """Let the top be confirmed by the channel; True when that has made the book withheld."""
        prices = self.book.top
        if not tops or prices is None:
            return False
        ours = Top(self.sequence, prices)
        if tops[-1].sequence < ours.sequence:
            self._unconfirmed = ours
            return False
        for top in reversed(tops):
            if top.sequence <= ours.sequence:
                return self._compare(ours, top)
        return False

    def _compare(self, ours: Top, theirs: Top) -> bool:
        if ours.prices == theirs.prices:
            self._mismatches = 0
        elif self.is_synced and self._mismatched_at != theirs.sequence:
            self._mismatched_at = theirs.sequence
            self._mismatches += 1
            if self._mismatches >= MOST_MISMATCHES:
                self.withhold(
                    f"the top at {ours.sequence} is {ours.prices}, and {theirs.prices} by the"
                    " channel of best prices"
                )
                return True
        return False

    def _advance(self, bids: Levels, asks: Levels, sequence: int, event_ms: int) -> bool:
        """Apply a message that continues the book; True when that changed what the book is or
        wants."""
        book = self.book
        book.apply(bids, asks)
        self.sequence, self.event_ms = sequence, event_ms
        bid_prices, ask_prices, scarce = book.bid_prices, book.ask_prices, self._scarce
        if len(bid_prices) > scarce and len(ask_prices) > scarce and bid_prices[-1] < ask_prices[0]:
            return self._tops is not None and self._remember_top(self._tops)
        if problem := self._problem():
            self._lose(problem)
            return True
        if self._tops is not None and self._remember_top(self._tops):
            return True
        if self.want is Want.NOTHING and book.is_scarce(scarce):
            self.want = Want.SNAPSHOT
            self.expect_snapshot()
            return True
        return False

    def _problem(self) -> str:
        """Why the levels cannot be served, "" when they can."""
        top = self.book.top
        if top is None:
            return "nothing is known of a side"
        if top[0] >= top[2]:
            self.crossings += 1
            return f"crossed: bid {top[0]} at ask {top[2]}"
        return ""

    @abstractmethod
    def _lose(self, reason: str) -> None:
        """The book cannot be trusted any more; what it wants is the venue's to say."""

    def _withheld(self, reason: str, want: Want) -> None:
        self.is_synced = False
        self.reason, self.want = reason, want
        self._forget_tops()

    def _synced(self) -> None:
        """The book has found its place."""
        if not self.is_synced:
            self.resyncs += self._was_synced
            self._forget_tops()
        self.is_synced = self._was_synced = True
        self.reason, self.want = "", Want.NOTHING

    def _forget_tops(self) -> None:
        self._unconfirmed = None
        self._mismatches = 0

    def _own(self, snapshot: DepthSnapshot) -> None:
        """Raises ValueError for the snapshot of another book."""
        if (snapshot.exchange, snapshot.symbol) != (self.exchange, self.symbol):
            raise ValueError(
                f"a snapshot of {snapshot.exchange} {snapshot.symbol} for {self.exchange}"
                f" {self.symbol}"
            )


def _prices(quote: Quote) -> tuple[float, float, float, float]:
    return quote.best_bid, quote.bid_quantity, quote.best_ask, quote.ask_quantity
