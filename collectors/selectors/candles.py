"""Stored candles as aligned arrays, and one by one; the revisions of series."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
from django.db import connection
from django.db.models import Case, Value, When
from django.db.models.functions import Coalesce
from numpy.typing import NDArray

from collectors.marketdata import CandleMatrix, duration, to_ms
from collectors.models import Instrument, Ohlcv, Series
from collectors.selectors.expressions import EpochSeconds


def candle_matrix(
    *, coin_ids: Sequence[str], timeframe: str, start: datetime, end: datetime
) -> CandleMatrix:
    """Every bar of [start, end) for the coins, in their order. `start` and `end` are on the grid.

    Raises ValueError for an unknown timeframe, Instrument.DoesNotExist for an unknown coin.
    """
    step = duration(timeframe) // duration("1m") * 60
    first = to_ms(start) // 1000
    seconds = np.arange(first, to_ms(end) // 1000, step, dtype=np.int64)
    ids = _instrument_ids(coin_ids)
    shape = (len(seconds), len(coin_ids))
    columns = np.full((5, *shape), np.nan)
    valid = np.zeros(shape, dtype=bool)
    sampled = np.zeros(shape, dtype=bool)
    rows = _candle_rows(ids, timeframe, start, end)
    if len(rows):
        bar = (rows[:, 1].astype(np.int64) - first) // step
        order = np.argsort(ids)
        column = order[np.searchsorted(ids, rows[:, 0].astype(np.int64), sorter=order)]
        columns[:, bar, column] = rows[:, 2:7].T
        valid[bar, column] = True
        sampled[bar, column] = rows[:, 7] != 0.0
    _fill_holes(columns, valid, _closes_before(ids, timeframe, start, valid))
    opens, high, low, close, volume = columns
    return CandleMatrix(
        timeframe=timeframe,
        coin_ids=tuple(coin_ids),
        open_time=seconds * 1000,
        open=opens,
        high=high,
        low=low,
        close=close,
        volume=volume,
        valid=valid,
        sampled=sampled,
    )


def _instrument_ids(coin_ids: Sequence[str]) -> NDArray[np.int64]:
    ids = dict(Instrument.objects.filter(coin_id__in=coin_ids).values_list("coin_id", "pk"))
    for coin_id in coin_ids:
        if coin_id not in ids:
            raise Instrument.DoesNotExist(f"unknown instrument {coin_id!r}")
    return np.array([ids[coin_id] for coin_id in coin_ids], dtype=np.int64)


def _candle_rows(
    ids: NDArray[np.int64], timeframe: str, start: datetime, end: datetime
) -> NDArray[np.float64]:
    """(N, 8): instrument, open time in seconds, open, high, low, close, volume, sampled.

    All as doubles, which hold the integers exactly; a volume that is null is zero.
    """
    rows = (
        Ohlcv.objects.filter(
            instrument_id__in=ids.tolist(),
            timeframe=timeframe,
            open_time__gte=start,
            open_time__lt=end,
        )
        .order_by()
        .annotate(
            seconds=EpochSeconds("open_time"),
            volume_or_zero=Coalesce("volume", 0.0),
            sampled=Case(When(is_sampled=True, then=Value(1)), default=Value(0)),
        )
        .values_list(
            "instrument_id", "seconds", "open", "high", "low", "close", "volume_or_zero", "sampled"
        )
    )
    # The cursor's own rows: the ORM's row by row iteration doubles the cost of a big read.
    sql, parameters = rows.query.get_compiler(connection=connection).as_sql()
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        flat = itertools.chain.from_iterable(cursor.fetchall())
        return np.fromiter(flat, dtype=np.float64).reshape(-1, 8)


def _closes_before(
    ids: NDArray[np.int64], timeframe: str, start: datetime, valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(K,): the last close before `start` of instruments that lack the first bar, else NaN."""
    closes = np.full(len(ids), np.nan)
    for column in np.flatnonzero(~valid[0]) if len(valid) else ():
        earlier = Ohlcv.objects.filter(
            instrument_id=int(ids[column]), timeframe=timeframe, open_time__lt=start
        )
        close = earlier.order_by("-open_time").values_list("close", flat=True).first()
        if close is not None:
            closes[column] = close
    return closes


def _fill_holes(
    columns: NDArray[np.float64], valid: NDArray[np.bool_], before: NDArray[np.float64]
) -> None:
    """Fill what is not valid in (5, B, K) prices and volumes, in place."""
    opens, _, _, close, volume = columns
    bars, width = valid.shape
    if bars == 0:
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
