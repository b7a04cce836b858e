"""Macro values as they were known at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from collectors.fred import newest_release
from collectors.models import MacroObservation, MacroSeries
from collectors.selectors.expressions import EpochSeconds


def macro_known_at(
    *, series_ids: Sequence[str], moments_ms: NDArray[np.int64]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.bool_]]]:
    """For each series, the value known at each moment and whether one was.

    Known is the newest vintage of the newest observation date that had been released by then.
    Before the first release the first value stands in, with known false; zeros without any.
    """
    values: dict[str, NDArray[np.float64]] = {}
    known: dict[str, NDArray[np.bool_]] = {}
    for series_id in series_ids:
        moments, steps = _release_steps(series_id)
        at = np.searchsorted(moments, moments_ms, side="right") - 1
        known[series_id] = at >= 0
        values[series_id] = (
            steps[np.maximum(at, 0)] if len(steps) else np.zeros(len(moments_ms), dtype=np.float64)
        )
    return values, known


def macro_is_current(*, series_ids: Sequence[str], moment: datetime) -> list[str]:
    """The series, in the given order, of which values may be missing that are usable at `moment`
    (market time); empty when all are current.

    Current is a series that was collected, with an answer, at or after the newest release due at
    `moment`; whether it had anything new does not matter. A series that cannot be collected (no
    key, disabled, unknown) is never current.
    """
    current = set(
        MacroSeries.objects.filter(
            series_id__in=series_ids, last_success_at__gte=newest_release(moment)
        ).values_list("series_id", flat=True)
    )
    return [series_id for series_id in series_ids if series_id not in current]


def _release_steps(series_id: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """When the known value of a series changed (epoch ms, ascending), and to what."""
    rows = (
        MacroObservation.objects.filter(series__series_id=series_id)
        .order_by("released_at", "date", "realtime_start")
        .annotate(seconds=EpochSeconds("released_at"))
        .values_list("seconds", "date", "realtime_start", "value")
    )
    moments: list[int] = []
    steps: list[float] = []
    newest = None
    for seconds, date, realtime_start, value in rows:
        if newest is None or (date, realtime_start) >= newest:
            newest = (date, realtime_start)
            moments.append(seconds * 1000)
            steps.append(value)
    return np.array(moments, dtype=np.int64), np.array(steps, dtype=np.float64)
