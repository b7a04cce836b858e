"""Backfills as they are asked for: what cannot be had is refused here, before it has a row.

BackfillRefused             the request cannot be served; the message is for its author
└── NotServed               no source of the instrument has candles of that time
"""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import User

from collectors import clock
from collectors.marketdata import TIMEFRAMES, duration, floor_time
from collectors.models import DERIVED_TIMEFRAMES, Backfill, BackfillState, Instrument
from collectors.services.coverage import closed_until, default_history_start
from collectors.services.search import EARLIEST, served_from

# Two centuries of hours, four years of minutes. Memory does not bound it, only patience.
MOST_BARS = 2_000_000


class BackfillRefused(ValueError):
    """The request cannot be served; `field` names the part of it that is wrong."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class NotServed(BackfillRefused):
    """No source of the instrument has candles of that time."""


def request_backfill(
    *,
    instrument: Instrument,
    timeframe: str,
    start: datetime | None = None,
    end: datetime | None = None,
    requested_by: User | None = None,
) -> Backfill:
    """Queue a backfill of the bars that open in [start, end) and are closed.

    Without `start` from the begin of the default history, without `end` to now; the span is cut
    to what any source serves. Raises BackfillRefused.
    """
    first, last = servable_span(instrument=instrument, timeframe=timeframe, start=start, end=end)
    return Backfill.objects.create(
        instrument=instrument,
        timeframe=timeframe,
        start=first,
        end=last,
        position=first,
        requested_by=requested_by,
        created_at=clock.wall_now(),
    )


def continue_backfill(
    *,
    instrument: Instrument,
    timeframe: str,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Backfill:
    """The unfinished backfill that nobody in particular asked for and that begins at `start`, made
    to reach to `end` and queued again if it had stopped; else a new one. Raises BackfillRefused.
    """
    first, last = servable_span(instrument=instrument, timeframe=timeframe, start=start, end=end)
    unfinished = (
        Backfill.objects.filter(
            instrument=instrument,
            timeframe=timeframe,
            start=first,
            requested_by=None,
        )
        .exclude(state=BackfillState.DONE)
        .first()
    )
    if unfinished is None or unfinished.position > last:
        return request_backfill(instrument=instrument, timeframe=timeframe, start=start, end=end)
    Backfill.objects.filter(pk=unfinished.pk).exclude(state=BackfillState.DONE).update(end=last)
    restart_backfill(backfill_id=unfinished.pk)
    unfinished.refresh_from_db()
    return unfinished


def restart_backfill(*, backfill_id: int) -> bool:
    """Queue a failed or cancelled backfill again; it goes on where it stood."""
    stopped = Backfill.objects.filter(
        pk=backfill_id, state__in=(BackfillState.FAILED, BackfillState.CANCELLED)
    )
    return bool(
        stopped.update(state=BackfillState.QUEUED, error="", finished_at=None, leased_until=None)
    )


def servable_span(
    *, instrument: Instrument, timeframe: str, start: datetime | None, end: datetime | None
) -> tuple[datetime, datetime]:
    """The bars of [start, end) that are closed and that any source can have, as [first, last).

    Raises BackfillRefused for a span that is empty, absurd or out of every source's reach.
    """
    if timeframe not in TIMEFRAMES:
        known = ", ".join(TIMEFRAMES)
        raise BackfillRefused(f"unknown timeframe {timeframe!r}; known: {known}", field="timeframe")
    if timeframe in DERIVED_TIMEFRAMES:
        raise BackfillRefused(
            f"{timeframe} candles are made from those of {DERIVED_TIMEFRAMES[timeframe]}: "
            "backfill these",
            field="timeframe",
        )
    start = start or default_history_start()
    last = closed_until(end or clock.now(), timeframe)
    if start >= last:
        raise BackfillRefused("the start must be before the end and in the past", field="start")
    if start < EARLIEST:
        raise BackfillRefused(f"no source has candles before {EARLIEST:%Y-%m-%d}", field="start")
    served = served_from(instrument)
    if last <= served:
        raise NotServed(
            f"no source has candles of {instrument} before {served:%Y-%m-%d}", field="end"
        )
    step = duration(timeframe)
    first = max(start, served)
    floored = floor_time(first, timeframe)
    first = floored if floored == first else floored + step
    bars = (last - first) // step
    if bars < 1:
        raise BackfillRefused("no closed bar between start and end", field="start")
    if bars > MOST_BARS:
        raise BackfillRefused(
            f"{bars:,} bars are too many at once, {MOST_BARS:,} at most: ask for a part",
            field="start",
        )
    return first, last
