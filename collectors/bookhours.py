"""What followed books were like in an hour, weighted by time, and when they were not. Pure.

A book is as it was last said to be until it is said to be otherwise. Times are market time; an
hour that several processes have seen a part of is the sum of their parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from collectors.marketdata import floor_time

HOUR = timedelta(hours=1)


class BookState(NamedTuple):
    """A book at one moment. A spread of None, as of an empty side, counts as withheld. Depths are
    (bid, ask) in quote units within 10 and 50 bps of the mid price, None where the book is not
    known that far. The counts are running totals."""

    is_synced: bool
    spread_bps: float | None = None
    depth_10_bps: tuple[float, float] | None = None
    depth_50_bps: tuple[float, float] | None = None
    messages: int = 0
    gaps: int = 0
    resyncs: int = 0


class Downtime(NamedTuple):
    """A while (wall time) in which a followed book was withheld; it lasts until `ended_at`."""

    exchange: str
    symbol: str
    began_at: datetime
    ended_at: datetime | None
    reason: str


@dataclass
class Depth:
    """A time-weighted sum of a depth: quote units times seconds, and the seconds."""

    seconds: float = 0.0
    bid: float = 0.0
    ask: float = 0.0

    def add(self, depth: tuple[float, float] | None, seconds: float) -> None:
        """The depth has been that for so long."""
        if depth is not None:
            self.seconds += seconds
            self.bid += depth[0] * seconds
            self.ask += depth[1] * seconds


@dataclass
class HourPart:
    """What was seen of one hour of one book. `spread` is bps times seconds."""

    exchange: str
    symbol: str
    hour: datetime
    synced_s: float = 0.0
    withheld_s: float = 0.0
    spread: float = 0.0
    spread_min: float | None = None
    spread_max: float | None = None
    depth_10_bps: Depth = field(default_factory=Depth)
    depth_50_bps: Depth = field(default_factory=Depth)
    messages: int = 0
    gaps: int = 0
    resyncs: int = 0

    def add(self, state: BookState, seconds: float) -> None:
        """The book has been like that for so long."""
        if not state.is_synced or state.spread_bps is None:
            self.withheld_s += seconds
            return
        self.synced_s += seconds
        self.spread += state.spread_bps * seconds
        self.see(state.spread_bps)
        self.depth_10_bps.add(state.depth_10_bps, seconds)
        self.depth_50_bps.add(state.depth_50_bps, seconds)

    def include(self, other: HourPart) -> None:
        """Add another part of the same hour of the same book."""
        self.synced_s += other.synced_s
        self.withheld_s += other.withheld_s
        self.spread += other.spread
        for spread_bps in (other.spread_min, other.spread_max):
            if spread_bps is not None:
                self.see(spread_bps)
        for mine, more in (
            (self.depth_10_bps, other.depth_10_bps),
            (self.depth_50_bps, other.depth_50_bps),
        ):
            mine.seconds += more.seconds
            mine.bid += more.bid
            mine.ask += more.ask
        self.messages += other.messages
        self.gaps += other.gaps
        self.resyncs += other.resyncs

    def see(self, spread_bps: float) -> None:
        """The spread was that, for however short a time."""
        low, high = self.spread_min, self.spread_max
        self.spread_min = spread_bps if low is None else min(low, spread_bps)
        self.spread_max = spread_bps if high is None else max(high, spread_bps)


class BookHours:
    """Adds up states of any number of books. Not to be shared by threads.

    `longest` (market time) is how long a state stands unrepeated: a process that was stopped for
    longer cannot say what the book was like meanwhile.
    """

    def __init__(self, *, longest: timedelta) -> None:
        self._longest = longest
        self._states: dict[tuple[str, str], tuple[datetime, BookState]] = {}
        self._parts: dict[tuple[str, str, datetime], HourPart] = {}

    def note(self, exchange: str, symbol: str, at: datetime, state: BookState) -> None:
        """The book is like that from `at` on."""
        key = (exchange, symbol)
        before = self._states.get(key)
        self._states[key] = (at, state)
        if before is not None:
            self._stretch(key, before, at)
        part = self._part(key, floor_time(at, "1h"))
        counts = before[1] if before else BookState(False)
        part.messages += _more(counts.messages, state.messages)
        part.gaps += _more(counts.gaps, state.gaps)
        part.resyncs += _more(counts.resyncs, state.resyncs)
        if state.is_synced and state.spread_bps is not None:
            part.see(state.spread_bps)

    def drop(self, exchange: str, symbol: str, at: datetime) -> None:
        """The book is not followed any more."""
        before = self._states.pop((exchange, symbol), None)
        if before is not None:
            self._stretch((exchange, symbol), before, at)

    def take(self, at: datetime) -> list[HourPart]:
        """What has been added up since the last call, up to `at`; it is forgotten here. To be
        called more often than `longest`, and at the end."""
        for key, before in self._states.items():
            self._stretch(key, before, at)
            self._states[key] = (max(at, before[0]), before[1])
        parts, self._parts = list(self._parts.values()), {}
        return parts

    def _stretch(
        self, key: tuple[str, str], before: tuple[datetime, BookState], until: datetime
    ) -> None:
        """The state has lasted until then; a clock that was set back counts nothing."""
        since, state = before
        if until - since > self._longest:
            return
        while since < until:
            hour = floor_time(since, "1h")
            end = min(hour + HOUR, until)
            self._part(key, hour).add(state, (end - since).total_seconds())
            since = end

    def _part(self, key: tuple[str, str], hour: datetime) -> HourPart:
        name = (*key, hour)
        part = self._parts.get(name)
        if part is None:
            part = self._parts[name] = HourPart(*name)
        return part


def _more(before: int, now: int) -> int:
    """What a running total has grown by; one that starts anew has grown from nothing."""
    return now - before if now >= before else now
