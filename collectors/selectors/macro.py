"""Macro values as they were known at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from collectors.macro_registry import place_of
from collectors.marketdata import to_ms
from collectors.models import MacroObservation, MacroSeries
from collectors.releases import newest_release
from collectors.selectors.expressions import EpochSeconds
from collectors.vintages import KnownValues, MacroValue, Row, VintageHistory


@dataclass(frozen=True, kw_only=True)
class MacroColumn:
    """What was known of a series at N moments: arrays of N.

    Before the first release the first value stands in, with `known` false; zeros without any.
    `released_ms` is when the value's observation was first released (epoch ms), 0 where not known.
    `day` is the day that the value is of, counted from 1970-01-01.
    """

    value: NDArray[np.float64]
    known: NDArray[np.bool_]
    released_ms: NDArray[np.int64]
    day: NDArray[np.int64]


def macro_known_at(
    *, series_ids: Sequence[str], moments_ms: NDArray[np.int64]
) -> dict[str, MacroColumn]:
    """For each series, the value known at each moment, whether one was, and since when.

    Known is the newest vintage of the newest observation date that had been released by then,
    however long ago that was.
    """
    columns = {}
    for series_id in series_ids:
        history = VintageHistory(_rows(series_id))
        at = history.indexes(moments_ms)
        known, step = at >= 0, np.maximum(at, 0)
        values, releases, days = history.step_values(), history.step_releases(), history.step_days()
        if len(values) == 0:
            values, step = np.zeros(1), np.zeros_like(at)
            releases = days = np.zeros(1, dtype=np.int64)
        columns[series_id] = MacroColumn(
            value=values[step],
            known=known,
            released_ms=np.where(known, releases[step], 0),
            day=days[step],
        )
    return columns


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


def due_macro_series(*, moment: datetime) -> list[str]:
    """The enabled series that are to be asked for at `moment` (market time), in the registry's
    order: those that are not current and do not wait after a failure."""
    enabled = MacroSeries.objects.filter(is_enabled=True)
    waiting = enabled.filter(retry_at__gt=moment)
    due = enabled.exclude(pk__in=waiting).values_list("series_id", flat=True)
    return macro_is_current(series_ids=sorted(due, key=place_of), moment=moment)


def macro_as_of(
    *, series_id: str, at: datetime, on: date | None = None, interpolate: bool = False
) -> MacroValue | None:
    """What was known at `at` (market time) of the series; None before the first release.

    Without `on` the newest value: flagged as forward-filled from the end of the day in Chicago
    that its first release began, until a newer observation is released. With `on` the value of
    that day: its own observation, else the one before, flagged as forward-filled, or with
    `interpolate` the line between its neighbours, flagged as that, where both were known at `at`.
    The newest value has no neighbour after it, so it is never interpolated. Nothing released
    after `at` is ever looked at. Raises MacroSeries.DoesNotExist.
    """
    history = macro_history(series_id=series_id)
    if on is None:
        return history.at(at)
    (value,) = history.on_days([on], as_of_ms=to_ms(at), interpolate=interpolate)
    return value


def macro_as_of_many(*, series_id: str, moments_ms: NDArray[np.int64]) -> KnownValues:
    """What was known at each moment (epoch ms), as `macro_as_of` says it of one.

    Raises MacroSeries.DoesNotExist.
    """
    return macro_history(series_id=series_id).at_many(moments_ms)


def macro_on_days(
    *, series_id: str, days: Sequence[date], as_of: datetime, interpolate: bool = False
) -> list[MacroValue | None]:
    """The values of the days as they were known at `as_of`, as `macro_as_of` with `on` says them.

    Raises MacroSeries.DoesNotExist.
    """
    history = macro_history(series_id=series_id)
    return history.on_days(days, as_of_ms=to_ms(as_of), interpolate=interpolate)


def macro_history(*, series_id: str) -> VintageHistory:
    """Every vintage of a series, to be asked about many moments. Raises
    MacroSeries.DoesNotExist."""
    return VintageHistory(_rows(MacroSeries.objects.get(series_id=series_id).series_id))


def _rows(series_id: str) -> list[Row]:
    """The vintages of a series; none for an unknown one."""
    rows = (
        MacroObservation.objects.filter(series__series_id=series_id)
        .order_by()
        .annotate(seconds=EpochSeconds("released_at"))
        .values_list("seconds", "date", "realtime_start", "value", "is_release_assumed")
    )
    return [
        (seconds * 1000, observed, realtime_start, value, is_assumed)
        for seconds, observed, realtime_start, value, is_assumed in rows
    ]
