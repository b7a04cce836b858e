"""Candles as columns: what long series are checked, compared and read as. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from collectors.marketdata import EPOCH, Candle, duration

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Codes = NDArray[np.int8]

MICROSECOND = timedelta(microseconds=1)
# Stands for a moment of receipt that is not given: received now.
NOW = -1


@dataclass(frozen=True, kw_only=True)
class CandleColumns:
    """N candles of one series, oldest first, each bar once. `volume` is NaN where the source has
    none; `volume_source` says by its code who measured it, 0 where it compares with no other."""

    open_time: Integers  # (N,) epoch milliseconds
    open: Doubles  # (N,)
    high: Doubles
    low: Doubles
    close: Doubles
    volume: Doubles
    volume_source: Codes
    sampled: Flags

    def __len__(self) -> int:
        return len(self.open_time)

    def rows(self, start: int, stop: int) -> CandleColumns:
        """The candles [start, stop), as views."""
        return CandleColumns(**{name: getattr(self, name)[start:stop] for name in COLUMNS})


COLUMNS = tuple(each.name for each in fields(CandleColumns))


def joined(parts: Sequence[CandleColumns]) -> CandleColumns:
    """The candles of all parts, in their order."""
    return CandleColumns(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    )


@dataclass(frozen=True, kw_only=True)
class CandleBatch:
    """N candles of several series of one timeframe, as a source gave them."""

    series: Integers  # (N,) which of the caller's series
    open_time: Integers  # (N,) epoch microseconds
    open: Doubles  # (N,)
    high: Doubles
    low: Doubles
    close: Doubles
    volume: Doubles  # NaN where `has_volume` is false
    has_volume: Flags
    sampled: Flags
    source: Integers  # (N,) position in `sources`
    received_at: Integers  # (N,) epoch microseconds, wall time, or NOW
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.open_time)

    def take(self, rows: Integers | Flags) -> CandleBatch:
        """The candles at these positions, or where the flags are set."""
        taken = {
            each.name: getattr(self, each.name)[rows]
            for each in fields(self)
            if each.name != "sources"
        }
        return CandleBatch(sources=self.sources, **taken)

    def candle(self, row: int) -> Candle:
        """The candle at a position."""
        return Candle(
            open_time=from_us(int(self.open_time[row])),
            open=float(self.open[row]),
            high=float(self.high[row]),
            low=float(self.low[row]),
            close=float(self.close[row]),
            volume=float(self.volume[row]) if self.has_volume[row] else None,
            source=self.sources[int(self.source[row])],
            is_sampled=bool(self.sampled[row]),
        )

    def numbered(self, series: Integers) -> CandleBatch:
        """The same candles as of the series with these numbers."""
        return replace(self, series=series)


def batch_of(candles: Sequence[Sequence[Candle]]) -> CandleBatch:
    """The candles of each series (numbered in their order) as one batch."""
    flat = list(chain.from_iterable(candles))
    names = [candle.source for candle in flat]
    sources = tuple(dict.fromkeys(names))
    codes = {name: code for code, name in enumerate(sources)}
    volumes = [candle.volume for candle in flat]
    return CandleBatch(
        series=np.repeat(np.arange(len(candles)), [len(group) for group in candles]),
        open_time=_integers([to_us(candle.open_time) for candle in flat]),
        open=_doubles([candle.open for candle in flat]),
        high=_doubles([candle.high for candle in flat]),
        low=_doubles([candle.low for candle in flat]),
        close=_doubles([candle.close for candle in flat]),
        volume=_doubles(volumes),
        has_volume=np.array([volume is not None for volume in volumes], dtype=np.bool_),
        sampled=np.array([candle.is_sampled for candle in flat], dtype=np.bool_),
        source=_integers([codes[name] for name in names]),
        received_at=_integers(
            [NOW if each.received_at is None else to_us(each.received_at) for each in flat]
        ),
        sources=sources,
    )


def possible(batch: CandleBatch, *, timeframe: str, now: datetime) -> Flags:
    """(N,): for which candles `quality.check_candle` finds nothing wrong."""
    step = duration(timeframe)
    low, high = batch.low, batch.high
    with np.errstate(invalid="ignore"):
        # A comparison with NaN is false, and a high below infinity bounds all the others.
        prices = (low > 0) & (high < np.inf)
        for price in (batch.open, batch.close):
            prices &= (low <= price) & (price <= high)
        volume = ~batch.has_volume | ((batch.volume >= 0) & (batch.volume < np.inf))
    on_grid = batch.open_time % (step // MICROSECOND) == 0
    return prices & volume & on_grid & (batch.open_time <= to_us(now - step))  # type: ignore[no-any-return]


def in_order(batch: CandleBatch) -> CandleBatch:
    """The batch by series and open time, each bar once: of several the one that came last."""
    order = np.lexsort((batch.open_time, batch.series))
    series, times = batch.series[order], batch.open_time[order]
    is_last = np.ones(len(order), dtype=np.bool_)
    is_last[:-1] = (series[1:] != series[:-1]) | (times[1:] != times[:-1])
    return batch.take(order[is_last])


def to_us(moment: datetime) -> int:
    """Microseconds since the epoch, exact."""
    return (moment - EPOCH) // MICROSECOND


def from_us(microseconds: int) -> datetime:
    """The aware UTC datetime of an epoch in microseconds."""
    return EPOCH + timedelta(microseconds=microseconds)


def _integers(values: Sequence[int]) -> Integers:
    return np.array(values, dtype=np.int64)


def _doubles(values: Sequence[float | None]) -> Doubles:
    return np.array(values, dtype=np.float64)  # None becomes NaN
