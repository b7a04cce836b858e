"""Market time, the clock that candles, schedules and releases follow. Pure.

Market time runs at `speed` from `start`, counted from the wall-clock moment `anchor`:

    market = start + (wall - anchor) x speed

Without a start it is wall time. The settings call `configure` once in every process.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

WALL_TOLERANCE = timedelta(seconds=5)


@dataclass(frozen=True)
class MarketClock:
    """A mapping between wall time and market time; both are aware UTC datetimes."""

    start: datetime | None = None
    anchor: datetime | None = None
    speed: float = 1.0

    def market(self, wall: datetime) -> datetime:
        """Market time at a wall-clock moment."""
        if self.start is None or self.anchor is None:
            return wall
        return self.start + (wall - self.anchor) * self.speed

    def wall(self, market: datetime) -> datetime:
        """The wall-clock moment at which market time is `market`."""
        if self.start is None or self.anchor is None:
            return market
        return self.anchor + (market - self.start) / self.speed

    def widen(self, bound: timedelta) -> timedelta:
        """A bound on age in market time, widened by five wall seconds of it.

        At high speed the machine's own latency spans much market time; a bound meant for the
        market must not refuse work because of it. At speed 1 a bound of 30 s becomes 35 s.
        """
        return bound + WALL_TOLERANCE * self.speed


_clock = MarketClock()


def configure(clock: MarketClock) -> None:
    """Set this process's clock. Called once, by the settings."""
    global _clock
    _clock = clock


def current() -> MarketClock:
    """This process's clock."""
    return _clock


def now() -> datetime:
    """Market time now, aware UTC."""
    return _clock.market(wall_now())


def wall_now() -> datetime:
    """Wall time now, aware UTC: for leases, heartbeats, latency and tokens only."""
    return datetime.now(UTC)
