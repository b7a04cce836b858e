"""What of a macro series was known at a moment. Pure.

A vintage says of one observation date what was published, and from which moment that may be used.
Known at a moment is, of everything released by then, the newest vintage of the newest date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from collectors.marketdata import from_ms, to_ms
from collectors.releases import day_in_chicago, midnight_in_chicago

NOTHING = -1
Row = tuple[int, date, date, float, bool]  # released_at (ms), date, realtime_start, value, assumed


@dataclass(frozen=True, kw_only=True)
class MacroValue:
    """A value as it was known at a moment.

    `date` is the observation that it is of, `released_at` the moment from which it could be used
    (of the later one, where two were interpolated). `is_forward_filled`: it stands in for days
    that have no value of their own. `age_days` is counted from `date`.
    """

    value: float
    date: date
    released_at: datetime
    is_forward_filled: bool
    is_interpolated: bool
    is_release_assumed: bool
    age_days: int


@dataclass(frozen=True, kw_only=True)
class KnownValues:
    """What was known at N moments: arrays of N. Where nothing was, `known` is false and the other
    fields are NaN, 0 or false. `date` is in days of the proleptic calendar (date.toordinal)."""

    known: NDArray[np.bool_]
    value: NDArray[np.float64]
    date: NDArray[np.int64]
    released_ms: NDArray[np.int64]
    is_forward_filled: NDArray[np.bool_]
    is_release_assumed: NDArray[np.bool_]


class VintageHistory:
    """The vintages of one series, to be asked about any moment. Takes them in any order."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = sorted(rows)
        first_release: dict[date, int] = {}
        newest: tuple[date, date] | None = None
        steps: list[Row] = []
        begins: list[int] = []
        for row in self._rows:
            released_ms, observed, realtime_start, _, _ = row
            first_release.setdefault(observed, released_ms)
            if newest is None or (observed, realtime_start) >= newest:
                newest = (observed, realtime_start)
                steps.append(row)
                begins.append(first_release[observed])
        self._steps = steps
        self._begins = begins
        self._moments = np.array([row[0] for row in steps], dtype=np.int64)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """When the day is over that each step's value has of its own (epoch ms)."""
        return np.array([_end_of_day(begin) for begin in self._begins], dtype=np.int64)

    def indexes(self, moments_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each moment the step that is known then, NOTHING before the first."""
        return np.searchsorted(self._moments, moments_ms, side="right") - 1

    def step_values(self) -> NDArray[np.float64]:
        """The value of each step: what was known from then on."""
        return np.array([row[3] for row in self._steps], dtype=np.float64)

    def step_releases(self) -> NDArray[np.int64]:
        """When each step's observation was first released (epoch ms): a later correction of it
        makes it no younger."""
        return np.array(self._begins, dtype=np.int64)

    def step_days(self) -> NDArray[np.int64]:
        """The day that each step's value is of, counted from 1970-01-01."""
        epoch = date(1970, 1, 1).toordinal()
        return np.array([row[1].toordinal() - epoch for row in self._steps], dtype=np.int64)

    def at(self, moment: datetime) -> MacroValue | None:
        """What was known at the moment, None before the first release.

        A value has one day of its own: the day in Chicago that its first release begins. On later
        days it is carried forward, and flagged, until a newer observation is released.
        """
        moment_ms = to_ms(moment)
        index = int(self.indexes(np.array([moment_ms], dtype=np.int64))[0])
        if index == NOTHING:
            return None
        is_carried = moment_ms >= _end_of_day(self._begins[index])
        return _value(self._steps[index], day_in_chicago(moment), is_forward_filled=is_carried)

    def at_many(self, moments_ms: NDArray[np.int64]) -> KnownValues:
        """What was known at each moment; see `at`."""
        index = self.indexes(moments_ms)
        known = index != NOTHING
        if not self._steps:
            zeros = np.zeros(len(moments_ms), dtype=np.int64)
            nan, no = np.full(len(moments_ms), np.nan), np.zeros(len(moments_ms), dtype=np.bool_)
            return KnownValues(
                known=known,
                value=nan,
                date=zeros,
                released_ms=zeros.copy(),
                is_forward_filled=no,
                is_release_assumed=no.copy(),
            )
        dates = np.array([row[1].toordinal() for row in self._steps], dtype=np.int64)
        assumed = np.array([row[4] for row in self._steps], dtype=np.bool_)
        return KnownValues(
            known=known,
            value=np.where(known, self.step_values()[index], np.nan),
            date=np.where(known, dates[index], 0),
            released_ms=np.where(known, self._moments[index], 0),
            is_forward_filled=known & (moments_ms >= self._ends[index]),
            is_release_assumed=known & assumed[index],
        )

    def on_days(
        self, days: Sequence[date], *, as_of_ms: int, interpolate: bool = False
    ) -> list[MacroValue | None]:
        """The value of each day as it was known at `as_of_ms`; None before the first observation.

        A day without an observation carries the one before, flagged. With `interpolate` it lies
        on the line between its neighbours where both were known by then, flagged as that; after
        the newest known one there is no line, and never is a value carried back.
        """
        newest: dict[date, Row] = {}
        for row in self._rows:
            if row[0] <= as_of_ms and (row[1] not in newest or row[2] >= newest[row[1]][2]):
                newest[row[1]] = row
        observed = sorted(newest)
        positions = np.searchsorted(
            np.array([each.toordinal() for each in observed], dtype=np.int64),
            np.array([day.toordinal() for day in days], dtype=np.int64),
            side="right",
        )
        values: list[MacroValue | None] = []
        for day, position in zip(days, positions.tolist(), strict=True):
            if position == 0:
                values.append(None)
                continue
            before = newest[observed[position - 1]]
            is_own = before[1] == day
            if interpolate and not is_own and position < len(observed):
                values.append(_between(before, newest[observed[position]], day))
            else:
                values.append(_value(before, day, is_forward_filled=not is_own))
        return values


def _end_of_day(moment_ms: int) -> int:
    """Where the day in Chicago ends that the moment is in: 23 to 25 hours after its midnight."""
    return to_ms(midnight_in_chicago(day_in_chicago(from_ms(moment_ms)) + timedelta(days=1)))


def _value(row: Row, day: date, *, is_forward_filled: bool) -> MacroValue:
    released_ms, observed, _, value, assumed = row
    return MacroValue(
        value=value,
        date=observed,
        released_at=from_ms(released_ms),
        is_forward_filled=is_forward_filled,
        is_interpolated=False,
        is_release_assumed=assumed,
        age_days=(day - observed).days,
    )


def _between(before: Row, after: Row, day: date) -> MacroValue:
    share = (day - before[1]).days / (after[1] - before[1]).days
    return MacroValue(
        value=before[3] + (after[3] - before[3]) * share,
        date=day,
        released_at=from_ms(max(before[0], after[0])),
        is_forward_filled=False,
        is_interpolated=True,
        is_release_assumed=before[4] or after[4],
        age_days=0,
    )
