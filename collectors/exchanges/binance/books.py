"""Binance's order books: a REST snapshot and the diffs that came meanwhile. Pure.

A diff `u` carries absolute quantities; U and u are its first and last update id, and L is the
snapshot's (How to manage a local order book correctly,
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/How-to-manage-a-local-order-book-correctly
and https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams). The two markets
join and continue by different rules.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from typing import Generic, TypeVar

import msgspec

from collectors.keptbook import KeptBook, Want
from collectors.orderbook import NO_ASK_EDGE, NO_BID_EDGE, OrderBook
from collectors.venues import BookPrice, BookQuantity, DepthSnapshot, Identifier, Moment

MOST_MESSAGES, MOST_BUFFERED_LEVELS = 300, 100_000
MOST_HELD_FOR = 20  # messages after which a snapshot that is still newer is no snapshot
# The numbers of levels that a snapshot can be asked for: with any other number, the venue has
# shown all there are.
SNAPSHOT_LIMITS = frozenset({5, 10, 20, 50, 100, 500, 1000, 5000})


class SpotDiff(msgspec.Struct, gc=False):
    """`data` of `<symbol>@depth`: E event time, U first and u last update id, b bids, a asks."""

    E: Moment
    s: str
    U: Identifier
    u: Identifier
    b: list[tuple[BookPrice, BookQuantity]]
    a: list[tuple[BookPrice, BookQuantity]]


class FuturesDiff(msgspec.Struct, gc=False):
    """The same on USD-M; `pu` is the last update id of the message before."""

    E: Moment
    s: str
    U: Identifier
    u: Identifier
    pu: Identifier
    b: list[tuple[BookPrice, BookQuantity]]
    a: list[tuple[BookPrice, BookQuantity]]


D = TypeVar("D", SpotDiff, FuturesDiff)


class SpotMessage(msgspec.Struct, gc=False):
    """A diff as the combined stream wraps it."""

    stream: str
    data: SpotDiff


class FuturesMessage(msgspec.Struct, gc=False):
    """A diff as the combined stream wraps it."""

    stream: str
    data: FuturesDiff


# One step for the whole message, numbers included: a level outside its bounds fails it.
decode_spot = msgspec.json.Decoder(SpotMessage, strict=False).decode
decode_futures = msgspec.json.Decoder(FuturesMessage, strict=False).decode


class BinanceBook(KeptBook, Generic[D]):
    """What both markets share: diffs are buffered until a snapshot joins them."""

    is_comparable = True

    def __init__(self, exchange: str, symbol: str) -> None:
        super().__init__(exchange, symbol)
        self._buffer: deque[D] = deque()  # one follows from the other
        self._buffered_levels = 0
        self._keeps = True  # messages are buffered: it is not synchronised, or expects a snapshot
        self._held: DepthSnapshot | None = None  # newer than the messages so far
        self._held_for = 0  # messages

    @abstractmethod
    def take(self, diff: D) -> bool:
        """Go on by one message; True when the book has just lost or found its place, or wants
        something. Raises ValueError for a message of another symbol."""

    @abstractmethod
    def _continues(self, diff: D, sequence: int) -> bool:
        """Whether the diff is the next one after update id `sequence`."""

    @abstractmethod
    def _is_older(self, diff: D, sequence: int) -> bool:
        """Whether a snapshot as of `sequence` makes the diff needless."""

    @abstractmethod
    def _bridges(self, diff: D, sequence: int) -> bool:
        """Whether the diff may be the first one after a snapshot as of `sequence`."""

    def _alien(self, diff: D) -> ValueError:
        self.malformed += 1
        return ValueError(f"{self.exchange}: a diff of {diff.s!r} for {self.symbol}")

    def _take_slowly(self, diff: D) -> bool:
        """A message that does not simply continue a synchronised book."""
        before = self.is_synced, self.want
        if self.is_synced and self._continues(diff, self.sequence):
            self._keep(diff)
            self._advance(diff.b, diff.a, diff.u, diff.E)
        else:
            self._gather(diff)
        if self._held is not None:
            self._try_held(self._held)
        return before != (self.is_synced, self.want)

    def _gather(self, diff: D) -> None:
        """Buffer a message for the snapshot to come."""
        if self.is_synced:
            self.gaps += 1
            self._lose(f"update {diff.U} to {diff.u} does not follow {self.sequence}")
        elif self._buffer and not self._continues(diff, self._buffer[-1].u):
            self.gaps += 1
            self._start_buffer()
        self._keep(diff)
        if self._held is None:
            self.want = Want.SNAPSHOT

    def _start_buffer(self) -> None:
        self._buffer.clear()
        self._buffered_levels = 0
        self._keeps = True

    def _keep(self, diff: D) -> None:
        buffer = self._buffer
        buffer.append(diff)
        self._buffered_levels += len(diff.b) + len(diff.a)
        while len(buffer) > MOST_MESSAGES or (
            self._buffered_levels > MOST_BUFFERED_LEVELS and len(buffer) > 1
        ):
            if self.is_synced and self.want is Want.NOTHING:
                self._stop_buffer()  # the snapshot has not come
                return
            oldest = buffer.popleft()
            self._buffered_levels -= len(oldest.b) + len(oldest.a)

    def _try_held(self, snapshot: DepthSnapshot) -> None:
        """Try the snapshot that was newer than the messages so far."""
        if self._buffer and not self._is_older(self._buffer[-1], snapshot.sequence):
            self._join(snapshot)
            return
        self._held_for += 1
        if self._held_for > MOST_HELD_FOR:
            self._held = None
            self.want = Want.NOTHING if self.is_synced else Want.SNAPSHOT

    def take_snapshot(self, snapshot: DepthSnapshot) -> bool:
        """See `KeptBook`."""
        self._own(snapshot)
        self._join(snapshot)
        return self.is_synced

    def check_against(self, snapshot: DepthSnapshot) -> bool | None:
        """See `KeptBook`."""
        self._own(snapshot)
        return self._join(snapshot) if self.is_synced else None

    def expect_snapshot(self) -> None:
        """See `KeptBook`."""
        if not self._keeps:
            self._start_buffer()

    def _join(self, snapshot: DepthSnapshot) -> bool | None:
        """Make the book of a snapshot and the buffered messages; whether it agrees with what was
        known before, None when there is nothing to compare or they do not join."""
        self._held = None
        at = snapshot.sequence
        if self.is_synced and at == self.sequence:
            fresh = _book_of(snapshot, self.snapshot_levels)
            return self._agree(fresh, _scarce(fresh))
        if self.is_synced and not self._buffer:
            is_newer = at > self.sequence
        else:
            is_newer = not self._buffer or self._is_older(self._buffer[-1], at)
        if is_newer:
            self.expect_snapshot()
            self._held, self._held_for = snapshot, 0
            self.want = Want.WAIT
            return None
        wanted = [diff for diff in self._buffer if not self._is_older(diff, at)]
        if not wanted or not self._bridges(wanted[0], at):
            if self.want is Want.WAIT:
                self.want = Want.NOTHING if self.is_synced else Want.SNAPSHOT
            return None
        fresh = _book_of(snapshot, self.snapshot_levels)
        scarce = _scarce(fresh)
        for diff in wanted:
            fresh.apply(diff.b, diff.a)
        if self.is_synced:
            return self._agree(fresh, scarce)
        self._begin(fresh, scarce, wanted[-1])
        return None

    def _agree(self, fresh: OrderBook, scarce: int) -> bool:
        if difference := self.book.difference(fresh):
            self._lose(f"differs from a fresh snapshot: {difference}")
            return False
        self.checks += 1
        self.book, self._scarce = fresh, scarce
        self._stop_buffer()
        self.want = Want.NOTHING
        return True

    def _begin(self, book: OrderBook, scarce: int, last: D) -> None:
        """Synchronised with `last`, unless the levels cannot be served."""
        self.book, self._scarce = book, scarce
        self.sequence, self.event_ms = last.u, last.E
        if problem := self._problem():
            self._lose(problem)
            return
        self._synced()
        self._stop_buffer()

    def _stop_buffer(self) -> None:
        self._start_buffer()
        self._keeps = False

    def withhold(self, reason: str) -> None:
        """See `KeptBook`."""
        self._lose(reason)

    def _lose(self, reason: str) -> None:
        self._withheld(reason, Want.WAIT)
        self._held = None
        self._start_buffer()

    def adopt(self, other: KeptBook) -> bool:
        """See `KeptBook`."""
        if (other.exchange, other.symbol) != (self.exchange, self.symbol):
            raise ValueError(f"{other.exchange} {other.symbol} for {self.exchange} {self.symbol}")
        if self.is_synced or not other.is_synced or not self._buffer:
            return False
        at = other.sequence
        wanted = [diff for diff in self._buffer if diff.u > at]
        if wanted:
            # Both messages being the venue's own, what simply continues the other joins it too.
            joins = self._continues(wanted[0], at) or self._bridges(wanted[0], at)
        else:
            joins = self._buffer[-1].u == at
        if not joins:
            return False
        book = other.book.copy()
        for diff in wanted:
            book.apply(diff.b, diff.a)
        self._begin(book, other._scarce, self._buffer[-1])
        return self.is_synced


class SpotBook(BinanceBook[SpotDiff]):
    """Drop u <= L; the first has U <= L + 1 <= u; then U is the previous u + 1."""

    def take(self, diff: SpotDiff) -> bool:
        """See `BinanceBook`."""
        if diff.s != self.symbol:
            raise self._alien(diff)
        self.messages += 1
        if self.is_synced and not self._keeps and diff.U == self.sequence + 1 <= diff.u:
            return self._advance(diff.b, diff.a, diff.u, diff.E)
        return self._take_slowly(diff)

    def _continues(self, diff: SpotDiff, sequence: int) -> bool:
        return diff.U == sequence + 1 <= diff.u

    def _is_older(self, diff: SpotDiff, sequence: int) -> bool:
        return diff.u <= sequence

    def _bridges(self, diff: SpotDiff, sequence: int) -> bool:
        return diff.U <= sequence + 1 <= diff.u


class FuturesBook(BinanceBook[FuturesDiff]):
    """Drop u < L; the first has U <= L <= u; then pu is the previous u."""

    def take(self, diff: FuturesDiff) -> bool:
        """See `BinanceBook`."""
        if diff.s != self.symbol:
            raise self._alien(diff)
        self.messages += 1
        if self.is_synced and not self._keeps and diff.pu == self.sequence <= diff.u:
            return self._advance(diff.b, diff.a, diff.u, diff.E)
        return self._take_slowly(diff)

    def _continues(self, diff: FuturesDiff, sequence: int) -> bool:
        return diff.pu == sequence <= diff.u

    def _is_older(self, diff: FuturesDiff, sequence: int) -> bool:
        return diff.u < sequence

    def _bridges(self, diff: FuturesDiff, sequence: int) -> bool:
        return diff.U <= sequence <= diff.u


def _book_of(snapshot: DepthSnapshot, asked: int) -> OrderBook:
    """The snapshot's levels, known to the last one of a side that has as many as were asked for."""
    bids = [(level.price, level.quantity) for level in snapshot.bids]
    asks = [(level.price, level.quantity) for level in snapshot.asks]
    book = OrderBook()
    book.reset(
        bids,
        asks,
        bid_edge=bids[-1][0] if _is_cut(len(bids), asked) else NO_BID_EDGE,
        ask_edge=asks[-1][0] if _is_cut(len(asks), asked) else NO_ASK_EDGE,
    )
    return book


def _scarce(book: OrderBook) -> int:
    """A quarter of what a snapshot shows."""
    return min(len(book.bids), len(book.asks)) // 4


def _is_cut(levels: int, asked: int) -> bool:
    return levels >= asked or levels in SNAPSHOT_LIMITS
