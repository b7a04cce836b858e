"""Bybit's order books: a topic opens with a snapshot and goes on with deltas. Pure.

A snapshot, or `u` = 1, replaces the book; from then on `u` is consecutive, and a size of "0"
removes a level (https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from collectors.keptbook import KeptBook, Want
from collectors.marketdata import Quote
from collectors.venues import BookPrice, BookQuantity, DepthSnapshot, Identifier, Moment

LEVELS = 200
RESTARTED = 1  # the `u` with which a service that was restarted sends its book


class BookChange(msgspec.Struct, gc=False):
    """`data` of `orderbook.{levels}.{symbol}`: u update id, seq the venue's cross sequence, b bids,
    a asks."""

    s: str
    b: list[tuple[BookPrice, BookQuantity]]
    a: list[tuple[BookPrice, BookQuantity]]
    u: Identifier
    seq: Identifier


class BookMessage(msgspec.Struct, gc=False):
    """One message of the topic; `ts` is the venue's stamp."""

    topic: str
    type: Literal["snapshot", "delta"]
    ts: Moment
    data: BookChange


# One step for the whole message, numbers included: a level outside its bounds fails it.
decode_book = msgspec.json.Decoder(BookMessage, strict=False).decode


class BybitBook(KeptBook):
    """The book of a topic of `levels` levels.

    Its REST snapshots count their updates by another topic, so that they can neither make the book
    whole nor be compared with it.
    """

    def __init__(self, exchange: str, symbol: str, levels: int = LEVELS) -> None:
        super().__init__(exchange, symbol, window=levels)

    def take(self, message: BookMessage) -> bool:
        """Go on by one message; True when the book has just lost or found its place, or wants
        something. Raises ValueError for a message of another symbol."""
        data = message.data
        if data.s != self.symbol:
            self.malformed += 1
            raise ValueError(f"{self.exchange}: a book of {data.s!r} for {self.symbol}")
        self.messages += 1
        if message.type == "snapshot" or data.u == RESTARTED:
            return self._replace(message)
        if self.is_synced and data.u == self.sequence + 1:
            return self._advance(data.b, data.a, data.u, message.ts)
        if self.is_synced or self.want is Want.WAIT:
            self.gaps += 1
            self._lose(f"update {data.u} does not follow {self.sequence}")
            return True
        return False

    def _replace(self, message: BookMessage) -> bool:
        data, was_synced = message.data, self.is_synced
        self.book.reset(data.b, data.a)
        self.sequence, self.event_ms = data.u, message.ts
        if problem := self._problem():
            self._lose(problem)
            return True
        self._synced()
        return not was_synced

    def take_snapshot(self, snapshot: DepthSnapshot) -> bool:
        """See `KeptBook`: a REST snapshot changes nothing."""
        self._own(snapshot)
        return self.is_synced

    def expect_snapshot(self) -> None:
        """See `KeptBook`: a REST snapshot cannot be joined, so no message is kept for it."""

    def check_against(self, snapshot: DepthSnapshot) -> bool | None:
        """See `KeptBook`: never comparable."""
        self._own(snapshot)
        return None

    def check_top(self, quote: Quote) -> bool:
        """See `KeptBook`. Never comparable: every topic counts its own updates, and that two of
        them are equal where their cross sequences are is not documented."""
        return False

    def withhold(self, reason: str) -> None:
        """See `KeptBook`."""
        self._lose(reason)

    def _lose(self, reason: str) -> None:
        self._withheld(reason, Want.RESUBSCRIBE)

    def adopt(self, other: KeptBook) -> bool:
        """See `KeptBook`. Never needed: the new connection's own snapshot comes first."""
        return False
