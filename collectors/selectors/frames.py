"""Candles and point-in-time macro values as one pandas frame, for whoever explores."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from collectors.marketdata import duration, to_ms
from collectors.selectors.candles import candle_history
from collectors.selectors.macro import macro_as_of_many

if TYPE_CHECKING:
    import pandas as pd


def market_frame(
    *,
    instrument: str,
    start: datetime,
    end: datetime,
    timeframe: str = "1h",
    macro: Sequence[str] = ("VIXCLS", "DGS10", "DTWEXBGS"),
) -> pd.DataFrame:
    """Every bar of [start, end) of an instrument (coin id), indexed by its open time in UTC.

    Columns: open, high, low, close, volume (NaN where its source has none), `valid` (false in a
    hole, which carries the last close), `sampled`, `derived`; then for each macro series its value
    as it was known at the bar's close, NaN before its first release, with `{series}_known` and
    `{series}_forward_filled`. What is in a row was known at its close, so that it may decide
    nothing before.

    Raises ValueError for an unknown timeframe, Instrument.DoesNotExist and MacroSeries.DoesNotExist
    for unknown names.
    """
    # Only where it is used: its import takes half a second and tens of megabytes.
    import pandas as pd

    candles = candle_history(instruments=[instrument], timeframe=timeframe, start=start, end=end)
    prices = ("open", "high", "low", "close")
    columns = {name: getattr(candles, name)[:, 0] for name in prices}
    is_unknown = candles.valid[:, 0] & ~candles.has_volume[:, 0]
    columns["volume"] = np.where(is_unknown, np.nan, candles.volume[:, 0])
    columns |= {name: getattr(candles, name)[:, 0] for name in ("valid", "sampled", "derived")}
    closes = candles.open_time + (to_ms(end) - to_ms(end - duration(timeframe)))
    for series_id in macro:
        told = macro_as_of_many(series_id=series_id, moments_ms=closes)
        columns[series_id] = told.value
        columns[f"{series_id}_known"] = told.known
        columns[f"{series_id}_forward_filled"] = told.is_forward_filled
    index = pd.DatetimeIndex(pd.to_datetime(candles.open_time, unit="ms", utc=True))
    return pd.DataFrame(columns, index=index.rename("open_time"))
