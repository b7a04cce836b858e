"""Stored candles as aligned arrays, and one by one; the revisions of series."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from collectors.columns import CandleColumns
from collectors.marketdata import CandleMatrix, duration, to_ms
from collectors.models import Instrument, Ohlcv, Series
from collectors.selectors.derived import history_columns

MILLISECOND = timedelta(milliseconds=1)


def candle_history(
    *, instruments: Sequence[str], timeframe: str, start: datetime, end: datetime
) -> CandleMatrix:
    """Every bar of [start, end) for the instruments (coin ids), in their order. `start` and `end`
    are on the grid. 4h and 1d are made from hourly candles, which `derived` says.

    Raises ValueError for an unknown timeframe, Instrument.DoesNotExist for an unknown coin.
    """
    step = duration(timeframe) // MILLISECOND
    first, stop = to_ms(start), to_ms(end)
    moments = np.arange(first, stop, step, dtype=np.int64)
    ids = _instrument_ids(instruments)
    series = history_columns(ids=ids, timeframe=timeframe)
    shape = (len(moments), len(instruments))
    columns = np.empty((5, *shape))
    flags = np.zeros((4, *shape), dtype=np.bool_)
    sources = np.zeros(shape, dtype=np.int8)
    before = np.full(len(instruments), np.nan)
    for number, coin_id in enumerate(instruments):
        candles = series[coin_id].columns
        since, until = np.searchsorted(candles.open_time, (first, stop)).tolist()
        if since:
            before[number] = candles.close[since - 1]
        within = candles.rows(since, until)
        bars: slice | NDArray[np.int64] = slice(None)
        if len(within) < len(moments):
            bars = np.searchsorted(moments, within.open_time)
        _place(within, bars, columns[:, :, number], flags[:3, :, number])
        sources[bars, number] = within.volume_source
        flags[3, bars, number] = series[coin_id].derived[since:until]
    valid, sampled, has_volume, derived = flags
    _fill_holes(columns, valid, before)
    opens, high, low, close, volume = columns
    return CandleMatrix(
        timeframe=timeframe,
        coin_ids=tuple(instruments),
        open_time=moments,
        open=opens,
        high=high,
        low=low,
        close=close,
        volume=volume,
        valid=valid,
        sampled=sampled,
        has_volume=has_volume,
        volume_source=sources,
        derived=derived,
    )


def _instrument_ids(coin_ids: Sequence[str]) -> dict[str, int]:
    ids = dict(Instrument.objects.filter(coin_id__in=coin_ids).values_list("coin_id", "pk"))
    for coin_id in coin_ids:
        if coin_id not in ids:
            raise Instrument.DoesNotExist(f"unknown instrument {coin_id!r}")
    return ids


def _place(
    candles: CandleColumns,
    bars: slice | NDArray[np.int64],
    columns: NDArray[np.float64],
    flags: NDArray[np.bool_],
) -> None:
    """Put the candles into their bars of (5, B) prices and volumes and (3, B) flags."""
    for column, name in zip(columns, ("open", "high", "low", "close", "volume"), strict=True):
        column[bars] = getattr(candles, name)
    valid, sampled, has_volume = flags
    valid[bars] = True
    sampled[bars] = candles.sampled
    lacks_volume = np.isnan(candles.volume)
    has_volume[bars] = ~lacks_volume
    if lacks_volume.any():
        columns[4][bars] = np.where(lacks_volume, 0.0, candles.volume)


def _fill_holes(
    columns: NDArray[np.float64], valid: NDArray[np.bool_], before: NDArray[np.float64]
) -> None:
    """Fill what is not valid in (5, B, K) prices and volumes, in place."""
    opens, _, _, close, volume = columns
    bars, width = valid.shape
    if bars == 0 or valid.all():
        return
    row = np.where(valid, np.arange(bars)[:, None], -1)
    last = np.maximum.accumulate(row, axis=0)
    first = np.where(valid.any(axis=0), opens[valid.argmax(axis=0), np.arange(width)], 1.0)
    lead = np.where(np.isnan(before), first, before)
    carried = np.where(last >= 0, np.take_along_axis(close, np.maximum(last, 0), axis=0), lead)
    for prices in columns[:4]:
        np.copyto(prices, carried, where=~valid)
    volume[~valid] = 0.0


def candle_at(*, instrument: Instrument, timeframe: str, open_time: datetime) -> Ohlcv | None:
    """The stored candle of one bar, or None."""
    return Ohlcv.objects.filter(
        instrument=instrument, timeframe=timeframe, open_time=open_time
    ).first()


def revisions(*, keys: Iterable[str]) -> dict[str, int]:
    """The revision of each series; 0 for one that has never been stored."""
    wanted = list(keys)
    found = dict(Series.objects.filter(key__in=wanted).values_list("key", "revision"))
    return {key: found.get(key, 0) for key in wanted}
