"""How the labelled holes of a series follow what is found and what is not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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


def relabel_holes(
    *,
    instrument: Instrument,
    timeframe: str,
    filled: Collection[datetime],
    labels: Mapping[datetime, Label],
) -> None:
    """Take the filled bars out of the holes and give bars their new labels.

    Runs in the caller's transaction, under the lock of the series. Writes nothing when nothing
    changes.
    """
    step = duration(timeframe)
    rows = list(CandleHole.objects.filter(instrument=instrument, timeframe=timeframe))
    bars: dict[datetime, Label] = {}
    for row in rows:
        moment = row.start
        while moment <= row.end:
            bars[moment] = Label(row.label, row.detail)
            moment += step
    bars.update(labels)
    for moment in filled:
        bars.pop(moment, None)
    wanted = _runs(bars, step)
    if [(row.start, row.end, Label(row.label, row.detail)) for row in rows] == wanted:
        return
    CandleHole.objects.filter(instrument=instrument, timeframe=timeframe).delete()
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


def _runs(
    bars: Mapping[datetime, Label], step: timedelta
) -> list[tuple[datetime, datetime, Label]]:
    runs: list[tuple[datetime, datetime, Label]] = []
    for moment in sorted(bars):
        label = bars[moment]
        if runs and runs[-1][1] + step == moment and runs[-1][2] == label:
            runs[-1] = (runs[-1][0], moment, label)
        else:
            runs.append((moment, moment, label))
    return runs
