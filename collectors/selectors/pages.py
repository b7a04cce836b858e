"""Derived candles one by one, in pages, with the sources that they came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from django.utils.dateparse import parse_datetime

from collectors.derived import DERIVED_FROM
from collectors.marketdata import EPOCH, duration, floor_time, from_ms, to_ms
from collectors.models import Instrument, Ohlcv
from collectors.selectors.derived import HistoryColumns, history_columns

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, kw_only=True)
class HistoryCandle:
    """One candle of a history. `source` names all sources that it came from, by comma."""

    open_time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    source: str
    is_sampled: bool
    is_derived: bool


@dataclass(frozen=True)
class DerivedCandles:
    """The candles of a derived timeframe, as what the cursor pagination asks of a query: order,
    bounds by open time, slices."""

    instrument: Instrument
    timeframe: str
    history: HistoryColumns
    rows: range  # positions in the history

    @classmethod
    def of(
        cls, instrument: Instrument, timeframe: str, start: datetime | None, end: datetime | None
    ) -> Self:
        """The instrument's candles with start <= open time < end."""
        ids = {instrument.coin_id: instrument.pk}
        history = history_columns(ids=ids, timeframe=timeframe)[instrument.coin_id]
        times = history.columns.open_time
        first = 0 if start is None else int(np.searchsorted(times, _ceil_ms(start)))
        stop = len(times) if end is None else int(np.searchsorted(times, _ceil_ms(end)))
        return cls(instrument, timeframe, history, range(first, max(first, stop)))

    def order_by(self, *fields: str) -> Self:
        """By `open_time` or `-open_time`."""
        forward = self.rows if self.rows.step == 1 else self.rows[::-1]
        return replace(self, rows=forward if fields[0] == "open_time" else forward[::-1])

    def filter(self, **bounds: str | datetime) -> Self:
        """Those that open after `open_time__gt`, or before `open_time__lt` (a cursor has them as
        text). Raises ValueError for a text that is no moment."""
        times = self.history.columns.open_time[list(self.rows)]
        keep = np.ones(len(times), dtype=np.bool_)
        if "open_time__gt" in bounds:
            keep &= times > to_ms(_moment(bounds["open_time__gt"]))
        if "open_time__lt" in bounds:
            keep &= times < _ceil_ms(_moment(bounds["open_time__lt"]))
        kept = np.flatnonzero(keep)
        rows = self.rows[int(kept[0]) : int(kept[-1]) + 1] if len(kept) else range(0)
        return replace(self, rows=rows)

    def __getitem__(self, part: slice) -> list[HistoryCandle]:
        rows = self.rows[part]
        if len(rows) == 0:
            return []
        sources = self._sources(rows)
        candles, derived = self.history.columns, self.history.derived
        volumes = candles.volume
        return [
            HistoryCandle(
                open_time=from_ms(int(candles.open_time[row])),
                open=float(candles.open[row]),
                high=float(candles.high[row]),
                low=float(candles.low[row]),
                close=float(candles.close[row]),
                volume=None if np.isnan(volumes[row]) else float(volumes[row]),
                source=",".join(sorted(sources.get(int(candles.open_time[row]), ()))),
                is_sampled=bool(candles.sampled[row]),
                is_derived=bool(derived[row]),
            )
            for row in rows
        ]

    def _sources(self, rows: range) -> dict[int, set[str]]:
        """The sources of each candle (by open time in ms), those that came from shorter candles
        and those that are stored themselves."""
        times = self.history.columns.open_time
        step = duration(self.timeframe)
        derived = {int(times[row]): bool(self.history.derived[row]) for row in rows}
        base = DERIVED_FROM[self.timeframe]
        found: dict[int, set[str]] = {}
        rows_of = Ohlcv.objects.filter(
            instrument=self.instrument,
            timeframe__in=[base, self.timeframe],
            open_time__gte=from_ms(min(derived)),
            open_time__lt=from_ms(max(derived)) + step,
        ).order_by()
        for open_time, timeframe, source in rows_of.values_list("open_time", "timeframe", "source"):
            bar = to_ms(floor_time(open_time, self.timeframe))
            if derived.get(bar) is (timeframe == base):
                found.setdefault(bar, set()).add(source)
        return found


def _moment(text: str | datetime) -> datetime:
    moment = parse_datetime(text) if isinstance(text, str) else text
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{text!r} is no moment")
    return moment


def _ceil_ms(moment: datetime) -> int:
    """The first millisecond that is not before the moment."""
    return -to_ms(EPOCH - (moment - EPOCH))
