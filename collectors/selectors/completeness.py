"""How much of every series is there, day by day and in all, and from which source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from django.db.models import Count
from numpy.typing import NDArray

from collectors.marketdata import duration, floor_time, from_ms, to_ms
from collectors.models import CandleHole, CollectionState, HoleLabel, Instrument, Ohlcv
from collectors.selectors.expressions import EpochSeconds

Counts = NDArray[np.int64]
DAY = timedelta(days=1)
DAY_MS = DAY // timedelta(milliseconds=1)


@dataclass(frozen=True)
class SeriesKey:
    """One series; `history_from`: no source has candles before. Bars are required only of what is
    collected, not of what was fetched once."""

    instrument: Instrument
    timeframe: str
    history_from: datetime | None

    @property
    def is_required(self) -> bool:
        """Whether the series is collected."""
        return self.instrument.is_enabled and self.timeframe in self.instrument.timeframes

    def required_from(self, moment: datetime, end: datetime) -> datetime:
        """The open time from which bars are required, given that of all series; `end` if none."""
        return max(moment, self.history_from or moment) if self.is_required else end


@dataclass(frozen=True)
class CoverageMap:
    """Bars of S series on D days (UTC), all counts (S, D).

    `expected` are the closed bars that are required; on days before these, what there happens to
    be. `sampled` are among the `stored`, which `by_source` divides. `lacking` were neither found
    nor given up: among them those labelled pending.
    """

    series: Sequence[SeriesKey]
    days: Sequence[date]
    expected: Counts
    stored: Counts
    sampled: Counts
    no_trade: Counts
    unrepairable: Counts
    lacking: Counts
    by_source: dict[str, Counts] = field(default_factory=dict)


@dataclass(frozen=True)
class SeriesTotals:
    """A series' required bars: how many there should be, are, cannot be, and may still come."""

    expected: int
    stored: int
    no_trade: int
    unrepairable: int

    @property
    def lacking(self) -> int:
        """Bars that may still come."""
        return max(self.expected - self.stored - self.no_trade - self.unrepairable, 0)

    @property
    def covered_pct(self) -> float | None:
        """The share of the required bars that is stored; None when none is required."""
        return round(100 * self.stored / self.expected, 3) if self.expected else None


def known_series(*, instruments: Sequence[Instrument]) -> list[SeriesKey]:
    """The series of the instruments that are collected or ever were, in order."""
    begins = {
        (pk, timeframe): begin
        for pk, timeframe, begin in CollectionState.objects.filter(
            instrument__in=instruments
        ).values_list("instrument_id", "timeframe", "history_from")
    }
    timeframes = {item.pk: set(item.timeframes if item.is_enabled else ()) for item in instruments}
    for pk, timeframe in begins:
        timeframes[pk].add(timeframe)
    return [
        SeriesKey(item, timeframe, begins.get((item.pk, timeframe)))
        for item in instruments
        for timeframe in sorted(timeframes[item.pk], key=duration)
    ]


def coverage_map(
    *,
    series: Sequence[SeriesKey],
    first_day: date,
    days: int,
    required_from: datetime,
    now: datetime,
) -> CoverageMap:
    """The bars of the series on `days` days from `first_day` on. Two queries.

    Bars are required from `required_from` or the begin of a series' history on, until `now`.
    """
    start = _midnight(first_day)
    shape = (len(series), days)
    counts = {name: np.zeros(shape, dtype=np.int64) for name in ("stored", "sampled", *HoleLabel)}
    by_source: dict[str, Counts] = {}
    rows = {(key.instrument.pk, key.timeframe): row for row, key in enumerate(series)}
    for pk, timeframe, source, is_sampled, day, number in _stored_by_day(series, start, days):
        row = rows.get((pk, timeframe))
        if row is None:
            continue
        column = day - to_ms(start) // DAY_MS
        counts["stored"][row, column] += number
        counts["sampled"][row, column] += number * is_sampled
        by_source.setdefault(source, np.zeros(shape, dtype=np.int64))[row, column] += number
    for pk, timeframe, label, first, last in _holes(series, start, start + days * DAY):
        row = rows.get((pk, timeframe))
        if row is not None:
            _spread(counts[label][row], to_ms(start), to_ms(first), to_ms(last), timeframe)
    settled = counts["stored"] + counts["no_trade"] + counts["unrepairable"]
    expected = _expected(series, start, days, required_from, now)
    expected = np.maximum(expected, settled + np.where(expected == 0, counts["pending"], 0))
    return CoverageMap(
        series=series,
        days=[first_day + number * DAY for number in range(days)],
        expected=expected,
        stored=counts["stored"],
        sampled=counts["sampled"],
        no_trade=counts["no_trade"],
        unrepairable=counts["unrepairable"],
        lacking=expected - settled,
        by_source=by_source,
    )


def series_totals(
    *, series: Sequence[SeriesKey], required_from: datetime, now: datetime
) -> dict[tuple[int, str], SeriesTotals]:
    """The totals of each series by instrument and timeframe. Two queries."""
    pks = {key.instrument.pk for key in series}
    stored = {
        (pk, timeframe): number
        for pk, timeframe, number in Ohlcv.objects.filter(
            instrument__in=pks, open_time__gte=required_from, open_time__lt=now
        )
        .order_by()
        .values_list("instrument_id", "timeframe")
        .annotate(number=Count("*"))
    }
    missing: dict[tuple[int, str, str], int] = {}
    for pk, timeframe, label, first, last in _holes(series, required_from, now):
        bars = (last - max(first, required_from)) // duration(timeframe) + 1
        missing[pk, timeframe, label] = missing.get((pk, timeframe, label), 0) + bars
    totals = {}
    for key in series:
        name = key.instrument.pk, key.timeframe
        end = floor_time(now, key.timeframe)
        bars = max((end - key.required_from(required_from, end)) // duration(key.timeframe), 0)
        here = stored.get(name, 0)
        no_trade = missing.get((*name, HoleLabel.NO_TRADE), 0)
        unrepairable = missing.get((*name, HoleLabel.UNREPAIRABLE), 0)
        totals[name] = SeriesTotals(
            expected=bars if key.is_required else here + no_trade + unrepairable,
            stored=here,
            no_trade=no_trade,
            unrepairable=unrepairable,
        )
    return totals


def _midnight(day: date) -> datetime:
    return from_ms((day - date(1970, 1, 1)).days * DAY_MS)


def _stored_by_day(series: Sequence[SeriesKey], start: datetime, days: int) -> Any:
    """(instrument, timeframe, source, is sampled, day since the epoch, candles)."""
    return (
        Ohlcv.objects.filter(
            instrument__in={key.instrument.pk for key in series},
            open_time__gte=start,
            open_time__lt=start + days * DAY,
        )
        .order_by()
        .annotate(day=EpochSeconds("open_time") / (DAY_MS // 1000))
        .values_list("instrument_id", "timeframe", "source", "is_sampled", "day")
        .annotate(number=Count("*"))
    )


def _holes(series: Sequence[SeriesKey], start: datetime, end: datetime) -> Any:
    """(instrument, timeframe, label, first, last) of the holes that touch [start, end)."""
    return (
        CandleHole.objects.filter(
            instrument__in={key.instrument.pk for key in series}, start__lt=end, end__gte=start
        )
        .order_by()
        .values_list("instrument_id", "timeframe", "label", "start", "end")
    )


def _spread(row: Counts, origin: int, first: int, last: int, timeframe: str) -> None:
    """Add the bars [first, last] (open times in ms) to the days that they open on."""
    step = duration(timeframe) // timedelta(milliseconds=1)
    edges = origin + np.arange(len(row) + 1, dtype=np.int64) * DAY_MS
    # How many of the hole's bars open before each midnight; the differences are the days'.
    before = np.clip(-(-(edges - first) // step), 0, (last - first) // step + 1)
    row += np.diff(before)


def _expected(
    series: Sequence[SeriesKey], start: datetime, days: int, required_from: datetime, now: datetime
) -> Counts:
    """(S, D): the closed bars that are required."""
    midnights = to_ms(start) + np.arange(days, dtype=np.int64) * DAY_MS
    closed = [floor_time(now, key.timeframe) for key in series]
    begins = [
        to_ms(key.required_from(required_from, end))
        for key, end in zip(series, closed, strict=True)
    ]
    ends = [to_ms(end) for end in closed]
    steps = [duration(key.timeframe) // timedelta(milliseconds=1) for key in series]
    first = np.maximum(midnights, np.array(begins, dtype=np.int64)[:, None])
    last = np.minimum(midnights + DAY_MS, np.array(ends, dtype=np.int64)[:, None])
    bars: Counts = np.maximum(last - first, 0) // np.array(steps, dtype=np.int64)[:, None]
    return bars
