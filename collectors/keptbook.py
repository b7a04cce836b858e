"""An order book that is kept in step with its venue, and never served when it may be wrong. Pure.

A venue's rule of continuity is a subclass in the venue's folder. Every message is checked against
it; one that is missing, doubled or out of order is noticed at the next message, and from then on
the book is withheld until it has been made anew from a snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from collectors.orderbook import OrderBook
from collectors.venues import DepthSnapshot


class Want(StrEnum):
    """What would make a withheld book whole again."""

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


class KeptBook:
    """The common part: state and counts. Not to be shared by threads.

    `sequence` is the venue's id of the last applied update, 0 before the first.
    """

    def __init__(self, exchange: str, symbol: str) -> None:
        self.exchange = exchange
        self.symbol = symbol
        self.book = OrderBook()
        self.is_synced = False
        self.reason = "not yet synchronised"
        self.want = Want.WAIT
        self.sequence = 0
        self.event_ms = 0
        self.messages = 0
        self.gaps = 0  # continuity broken
        self.crossings = 0
        self.malformed = 0
        self.resyncs = 0  # times it became whole again after having been

    def take_snapshot(self, snapshot: DepthSnapshot) -> bool:
        """Go on from a REST snapshot and the messages that came meanwhile; True when the book is
        synchronised now. One that is older than those messages reach back leaves the want as it
        is. Raises ValueError for another symbol's."""
        raise NotImplementedError

    def withhold(self, reason: str) -> None:
        """Serve the book no more until it is made anew: its connection is lost, it is silent, a
        check failed."""
        raise NotImplementedError

    def adopt(self, other: KeptBook) -> bool:
        """Go on from another connection's synchronised book of the same symbol, where this one's
        messages join its; True when that made this book synchronised. The other is not changed."""
        raise NotImplementedError

    def view(self, levels: int) -> BookView | None:
        """The best `levels` of each side; None while the book is withheld."""
        raise NotImplementedError
