"""What is stored of some instruments and macro series, as one market."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from collectors.macro_registry import believed_for
from collectors.marketdata import duration
from collectors.selectors import MacroColumn, candle_history, macro_known_at
from signals.strategy import BoolArray, IntArray, Market


@dataclass(frozen=True, kw_only=True)
class History:
    """A market as read from the tables, and the revisions of the series it was read at."""

    market: Market
    sampled: BoolArray  # (B, K): built from price samples, no true high and low
    revisions: Mapping[str, int]
    macro_released: Mapping[str, IntArray] = field(default_factory=dict)  # (B,) ms, 0 if nothing
    lead: int = 0  # the first bars that no strategy's own rows need, but the consensus' do


def read_history(
    coin_ids: Sequence[str],
    timeframe: str,
    start: datetime,
    end: datetime,
    series: Sequence[str],
    seen: Mapping[str, int],
) -> History:
    """The market of the bars that open in [start, end), with the macro series named; `seen` are the
    revisions it is read at."""
    candles = candle_history(instruments=list(coin_ids), timeframe=timeframe, start=start, end=end)
    closes = candles.open_time + int(duration(timeframe).total_seconds() * 1000)
    macro = macro_known_at(series_ids=list(series), moments_ms=closes)
    market = Market(
        timeframe=timeframe,
        instruments=tuple(coin_ids),
        open_time=candles.open_time,
        open=candles.open,
        high=candles.high,
        low=candles.low,
        close=candles.close,
        volume=candles.volume,
        volume_source=candles.volume_source,
        valid=candles.valid,
        macro={name: column.value for name, column in macro.items()},
        macro_known={name: _is_believed(name, column, closes) for name, column in macro.items()},
        macro_day={name: column.day for name, column in macro.items()},
    )
    return History(
        market=market,
        sampled=candles.sampled,
        revisions=dict(seen),
        macro_released={name: column.released_ms for name, column in macro.items()},
    )


def _is_believed(series_id: str, column: MacroColumn, moments_ms: IntArray) -> BoolArray:
    """Where a value was known that had not been overdue for long: silence of its source is not
    the last value for ever."""
    age = moments_ms - column.released_ms
    return column.known & (age <= believed_for(series_id) // timedelta(milliseconds=1))
