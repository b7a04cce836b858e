"""Funding settlements as the stream shows them: when a next funding time has passed. Pure.

The venue names no settlement on its stream. It says, all the time, the coming funding time T and
the rate that it would charge; after T it names a later one. The rate changes at T already, and T
some time after it, so that what was charged is the last rate whose stamp lies before T.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from collectors.marketdata import EPOCH

MINUTE = timedelta(minutes=1)
# How long before T the rate must have been seen: what changed since then would be missed. To be
# widened by the clock.
CLOSE_ENOUGH = timedelta(seconds=5)
# No venue stamps this far ahead of a clock that is set, or settles this rarely.
FARTHEST_AHEAD = timedelta(hours=1)
LONGEST_INTERVAL = timedelta(days=2)


class Outlook(Protocol):
    """What is needed of a `collectors.feeds.MarkPrice`."""

    @property
    def exchange(self) -> str: ...
    @property
    def symbol(self) -> str: ...
    @property
    def mark_price(self) -> float: ...
    @property
    def funding_rate(self) -> float: ...
    @property
    def next_funding_time(self) -> datetime: ...
    @property
    def event_time(self) -> datetime: ...


class SeenSettlement(msgspec.Struct, frozen=True, kw_only=True):
    """A settlement as the stream shows it. `rate` is what longs paid to shorts, a share of the
    notional; `mark_price` the last before it. `interval_hours` since the one before, None where
    that was not seen."""

    exchange: str
    symbol: str
    funding_time: datetime
    rate: float
    mark_price: float
    interval_hours: float | None


@dataclass
class _Followed:
    """What is known of one symbol: the coming funding time T, the settlement before it where it
    was seen to be that, the last sight before T, and the newest stamp of all."""

    next_time: datetime
    newest: datetime
    before: datetime | None = None
    sight: Outlook | None = None


class SettlementTracker:
    """Finds the settlements in the mark prices of any number of symbols, each once.

    It outlives connections: messages may be missing, doubled, out of order, or come from two
    overlapping connections. `close_enough` (market time) is how long before a settlement its rate
    must have been seen; one that was not is left to the exchange's history.
    """

    def __init__(self, *, close_enough: timedelta) -> None:
        self._close_enough = close_enough
        self._followed: dict[tuple[str, str], _Followed] = {}

    def note(self, mark: Outlook, *, now: datetime) -> SeenSettlement | None:
        """The settlement that this message shows to be over, if any. `now` is market time: a
        message from the far future says nothing."""
        coming = _minute(mark.next_funding_time)
        stamp = mark.event_time
        if stamp > now + FARTHEST_AHEAD + self._close_enough or coming > stamp + LONGEST_INTERVAL:
            return None
        key = (mark.exchange, mark.symbol)
        known = self._followed.get(key)
        if known is None:
            if coming > stamp:
                self._followed[key] = _Followed(coming, stamp, sight=mark)
            return None
        found = None
        if coming > known.next_time <= stamp:
            found = self._settled(known)
            self._roll(known, coming, stamp)
        elif coming != known.next_time and stamp > known.newest and coming > stamp:
            # The venue has moved its next settlement: nothing was charged at the old time.
            known.next_time, known.sight = coming, None
        if coming == known.next_time and stamp < coming:
            if known.sight is None or stamp >= known.sight.event_time:
                known.sight = mark
        known.newest = max(known.newest, stamp)
        return found

    def _settled(self, known: _Followed) -> SeenSettlement | None:
        sight, at = known.sight, known.next_time
        if sight is None or at - sight.event_time > self._close_enough:
            return None
        hours = None if known.before is None else (at - known.before).total_seconds() / 3600
        return SeenSettlement(
            exchange=sight.exchange,
            symbol=sight.symbol,
            funding_time=at,
            rate=sight.funding_rate,
            mark_price=sight.mark_price,
            interval_hours=hours,
        )

    def _roll(self, known: _Followed, coming: datetime, stamp: datetime) -> None:
        """Follow the next settlement. What was looked for is the one before it only if it was
        seen to be over at once: later, others may have come and gone."""
        late = stamp - known.next_time
        is_next = late <= self._close_enough and 2 * late < coming - known.next_time
        known.before = known.next_time if is_next else None
        known.next_time, known.sight = coming, None


def _minute(moment: datetime) -> datetime:
    """The minute of a funding time: its milliseconds wander."""
    return moment - ((moment - EPOCH) % MINUTE)
