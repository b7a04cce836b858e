"""Volatility breakout: follow a price that leaves its recent range out of a quiet market. Pure.

Rule: a breakout is a close above the highest high, or below the lowest low, of the `range_bars`
closed bars before it, by at least `breakout_atr` average true ranges. It is taken, in its own
direction, when none in that direction came in the `hold_bars` before it, and when the market
before it was not wild: the percentile of the realised volatility (standard deviation of hourly log
returns over `volatility_bars`) among those of the last 30 days lay below `wild_percentile` at the
bar before. Calm is a percentile below `calm_percentile`, normal what lies between. The state is
left when the close is back beyond the middle of the range, after `hold_bars`, or with a close
beyond the stop or the target, which lie `stop_atr` and `target_atr` of Wilder's average true
ranges from the close at entry (at least 0.2% and at most half of it). Confidence is the mean of
two parts, as of entry: how calm the market was, and the size of the breakout, full at
`full_breakout_atr` ranges beyond. The size is fixed.

Source: Donchian's channel breakout (Faith, Way of the Turtle, 2007), with Wilder's average true
range for the distances (New Concepts in Technical Trading Systems, 1978); that volatility clusters,
so that calm gives way to movement, goes back to Mandelbrot, Journal of Business 1963. The
combination and its numbers are this project's own.

Failure modes: most breakouts fail, and in a market that swings about its range each of them costs
a stop; a second attempt within `hold_bars` of the first is not taken, also where the first failed;
on bars built from price samples the range is one of closes and the average true range only the
mean absolute change of closes, so that breakouts come sooner and stops lie closer than they would
on traded highs and lows; the price of a token split is the greatest breakout of all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from signals.indicators import (
    at_rows,
    atr,
    by_column,
    first_after_quiet,
    held,
    log_change,
    percentile_rank,
    previous,
    previous_range,
    rolling_std,
    run_starts,
    until_hit,
)
from signals.parameters import parameter
from signals.strategy import Analysis, FloatArray, Market, Strategy

PERCENTILE_BARS = 30 * 24
PERCENTILE_STEP = 12  # half a window of volatility: those between are nearly the same
LONGEST = 240
BARS_PER_YEAR = 365 * 24
LEAST_DISTANCE, GREATEST_DISTANCE = 0.002, 0.5  # of the price at entry
CALM, NORMAL, WILD = 0.0, 1.0, 2.0


@dataclass(frozen=True, kw_only=True)
class VolatilityBreakout(Strategy):
    """The rule of this module with its parameters."""

    name: ClassVar[str] = "volatility_breakout"
    timeframe: ClassVar[str] = "1h"

    range_bars: int = parameter(low=2, high=LONGEST, unit="bars", text="the range to be left")
    volatility_bars: int = parameter(
        low=2, high=LONGEST, unit="bars", text="window of realised volatility"
    )
    calm_percentile: float = parameter(low=0.0, high=1.0, unit="percentile", text="calm below")
    wild_percentile: float = parameter(
        low=0.0, high=1.0, unit="percentile", text="wild at or above: nothing is entered"
    )
    atr_period: int = parameter(low=2, high=LONGEST, unit="bars", text="Wilder's period")
    breakout_atr: float = parameter(
        low=0.0, high=10.0, unit="average true ranges", text="beyond the range at least"
    )
    full_breakout_atr: float = parameter(
        low=0.1, high=20.0, unit="average true ranges", text="beyond it for full confidence"
    )
    stop_atr: float = parameter(low=0.1, high=50.0, unit="average true ranges", text="stop")
    target_atr: float = parameter(low=0.1, high=100.0, unit="average true ranges", text="target")
    hold_bars: int = parameter(
        low=1, high=LONGEST, unit="bars", text="kept at most, and quiet before an entry"
    )
    position_size: float = parameter(
        low=0.001, high=0.1, unit="fraction of equity", text="proposed size"
    )

    @property
    def lookback(self) -> int:
        """What the volatility's percentile needs, and twice the longest state before it."""
        longest = max(self.range_bars, 3 * self.atr_period)
        return max(PERCENTILE_BARS + self.volatility_bars, longest) + 2 * self.hold_bars + 1

    def analyze(self, market: Market) -> Analysis:
        """The wanted state at every bar."""
        close, high, low = (by_column(each) for each in (market.close, market.high, market.low))
        top, bottom = previous_range(high, low, self.range_bars)
        reach = atr(high, low, close, self.atr_period)
        volatility, percentile = self._volatility(close)
        before = previous(percentile)
        margin = self.breakout_atr * reach
        tradable = before < self.wild_percentile
        middle = 0.5 * (top + bottom)
        up = first_after_quiet((close > top + margin) & (close > top), self.hold_bars)
        down = first_after_quiet((close < bottom - margin) & (close < bottom), self.hold_bars)
        long = held(up & tradable, (close < middle) | down, self.hold_bars)
        short = held(down & tradable, (close > middle) | up, self.hold_bars)
        raw = long.astype(np.int8) - short.astype(np.int8)
        began = run_starts(raw)
        entered_at, reach_then = at_rows(close, began), at_rows(reach, began)
        stop = entered_at - raw * _distance(self.stop_atr * reach_then, entered_at)
        target = entered_at + raw * _distance(self.target_atr * reach_then, entered_at)
        beyond = np.maximum(close - top, bottom - close) / np.where(reach > 0.0, reach, 1.0)
        return Analysis(
            direction=until_hit(raw, began, close, stop, target),
            confidence=at_rows(self._confidence(before, beyond), began),
            stop_loss=stop,
            take_profit=target,
            position_size=np.full_like(close, self.position_size),
            diagnostics={
                "range_high": top,
                "range_low": bottom,
                "atr": reach,
                "volatility": volatility * math.sqrt(BARS_PER_YEAR),
                "percentile": percentile,
                "regime": self._regime(percentile),
            },
        )

    def _volatility(self, close: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Realised volatility of an hour, and its percentile: 0 for a price that does not move."""
        volatility = rolling_std(log_change(close, 1), self.volatility_bars)
        percentile = percentile_rank(volatility, PERCENTILE_BARS, every=PERCENTILE_STEP)
        return volatility, np.where(volatility > 0.0, percentile, 0.0)

    def _confidence(self, percentile: FloatArray, beyond: FloatArray) -> FloatArray:
        size = np.clip(beyond / self.full_breakout_atr, 0.0, 1.0)
        return np.asarray(0.5 * (1.0 - percentile) + 0.5 * size)

    def _regime(self, percentile: FloatArray) -> FloatArray:
        above_calm = np.where(percentile < self.calm_percentile, CALM, NORMAL)
        return np.where(percentile >= self.wild_percentile, WILD, above_calm)


def _distance(wanted: FloatArray, price: FloatArray) -> FloatArray:
    return np.minimum(np.maximum(wanted, LEAST_DISTANCE * price), GREATEST_DISTANCE * price)
