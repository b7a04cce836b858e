"""Longer candles made from hourly ones. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from collectors import spans
from collectors.columns import COLUMNS, CandleColumns
from collectors.marketdata import EPOCH, candle_key, duration, to_ms

DERIVED_FROM = {"4h": "1h", "1d": "1h"}


def history_keys(coin_id: str, timeframe: str) -> list[str]:
    """The keys of the series that a history of this timeframe is made of."""
    keys = [candle_key(coin_id, timeframe)]
    if timeframe in DERIVED_FROM:
        keys.append(candle_key(coin_id, DERIVED_FROM[timeframe]))
    return keys


def derive(
    candles: CandleColumns, *, timeframe: str, no_trade: Sequence[spans.Span]
) -> CandleColumns:
    """The candles of a derived timeframe, (M,) in order: where every shorter bar is there, or its
    venue had no trade in it (`no_trade`), and at least one is there.

    Open of the first, close of the last, the extremes, the sum of the volumes (none when one has
    none), which are of no one source when the shorter bars' sources differ; sampled when one is.
    """
    base = to_ms(EPOCH + duration(DERIVED_FROM[timeframe]))
    step = to_ms(EPOCH + duration(timeframe))
    bars, first = np.unique(candles.open_time // step, return_index=True)
    if len(bars) == 0:
        return candles
    last = np.append(first[1:], len(candles))
    short = bars[last - first < step // base]
    wanted = (short[:, None] * step + np.arange(0, step, base)).ravel()
    missing = spans.without(np.setdiff1d(wanted, candles.open_time), no_trade)
    whole = np.isin(bars, missing // step, invert=True)
    measured = [each.reduceat(candles.volume_source, first) for each in (np.minimum, np.maximum)]
    made = CandleColumns(
        open_time=bars * step,
        open=candles.open[first],
        high=np.maximum.reduceat(candles.high, first),
        low=np.minimum.reduceat(candles.low, first),
        close=candles.close[last - 1],
        volume=np.add.reduceat(candles.volume, first),
        volume_source=np.where(measured[0] == measured[1], measured[0], np.int8(0)),
        sampled=np.logical_or.reduceat(candles.sampled, first),
    )
    return CandleColumns(**{name: getattr(made, name)[whole] for name in COLUMNS})
