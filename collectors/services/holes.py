"""How the labelled holes of a series follow what is found and what is not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from collectors import clock
from collectors.marketdata import duration
from collectors.models import CandleHole, Instrument


@dataclass(frozen=True)
class Label:
    """Why a bar is missing."""

    label: str
    detail: str = ""


Run = tuple[datetime, datetime, Label]  # open times, both missing


def relabel_holes(
    *,
    instrument: Instrument,
    timeframe: str,
    filled: Collection[datetime],
    labels: Mapping[datetime, Label],
) -> None:
    """Take the filled bars out of the holes and give bars their new labels.

    Runs in the caller's transaction, under the lock of the series. Reads only the holes that touch
    the span of these bars, and writes nothing when nothing changes.
    """
    touched = [*filled, *labels]
    if not touched:
        return
    step = duration(timeframe)
    first, last = min(touched), max(touched)
    rows = list(
        CandleHole.objects.filter(
            instrument=instrument,
            timeframe=timeframe,
            start__lte=last + step,
            end__gte=first - step,
        ).order_by("start")
    )
    before: list[Run] = []
    after: list[Run] = []
    bars: dict[datetime, Label] = {}
    for row in rows:
        label = Label(row.label, row.detail)
        if row.start < first:
            before.append((row.start, min(row.end, first - step), label))
        if row.end > last:
            after.append((max(row.start, last + step), row.end, label))
        moment = max(row.start, first)
        while moment <= min(row.end, last):
            bars[moment] = label
            moment += step
    bars.update(labels)
    for moment in filled:
        bars.pop(moment, None)
    within = [(moment, moment, bars[moment]) for moment in sorted(bars)]
    wanted = _joined([*before, *within, *after], step)
    if [(row.start, row.end, Label(row.label, row.detail)) for row in rows] == wanted:
        return
    CandleHole.objects.filter(pk__in=[row.pk for row in rows]).delete()
    CandleHole.objects.bulk_create(
        CandleHole(
            instrument=instrument,
            timeframe=timeframe,
            start=start,
            end=end,
            label=label.label,
            detail=label.detail,
            seen_at=clock.now(),
        )
        for start, end, label in wanted
    )


def _joined(runs: Iterable[Run], step: timedelta) -> list[Run]:
    """Adjacent runs of one label as one; the runs are in order."""
    joined: list[Run] = []
    for start, end, label in runs:
        if joined and joined[-1][1] + step == start and joined[-1][2] == label:
            joined[-1] = (joined[-1][0], end, label)
        else:
            joined.append((start, end, label))
    return joined
