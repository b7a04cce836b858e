"""What kind of market a bar belongs to, from volatility and trend. Pure.

Everything that is summed is a whole number: returns in units of 1e-9. Sums of whole numbers are the
same from wherever history begins and in whatever order, so a bar's regime is the same to the last
bit in every history that holds its window, without a pinned start.

Volatility is the mean absolute return; a bar is wild when that of the last day's worth of bars is
above that of the window, else calm. Trend is Kaufman's efficiency ratio, the net move over the sum
of the moves (Perry Kaufman, Smarter Trading, 1995); a random walk is above the threshold at about
three bars in ten. Four regimes: calm or wild, ranging or trending.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from signals.strategy import IntArray, Market

RETURN_UNITS = 1_000_000_000
RETURN_CAP = 0.25  # of one bar: a broken print must not outweigh a month
VOLATILITY_BARS = 24
TREND_BARS = 72
REGIME_BARS = 240  # bars that a bar's regime depends on, its own included
TREND_EFFICIENCY = (3, 20)  # net move / sum of moves: 0.15

CALM_RANGING, CALM_TRENDING, WILD_RANGING, WILD_TRENDING = range(4)
REGIMES = ("calm, ranging", "calm, trending", "wild, ranging", "wild, trending")

RegimeArray = NDArray[np.int8]


def bar_returns(market: Market) -> IntArray:
    """Close to close in units of 1e-9, (K, B), at most a quarter; 0 where either bar is invalid
    and at the first."""
    close = market.close.T
    usable = (market.valid[1:] & market.valid[:-1]).T
    returns = np.zeros(close.shape, dtype=np.int64)
    change = np.clip(close[:, 1:] / close[:, :-1] - 1.0, -RETURN_CAP, RETURN_CAP)
    returns[:, 1:] = np.where(usable, np.rint(change * RETURN_UNITS), 0.0)
    return returns


def regimes(returns: IntArray) -> RegimeArray:
    """The regime at each bar of `bar_returns` (K, B), one of REGIMES.

    Row t from the REGIME_BARS up to t; before there are so many, from those there are.
    """
    moves = np.abs(returns)
    recent = window_sums(moves, VOLATILITY_BARS)
    wild = recent * REGIME_BARS > window_sums(moves, REGIME_BARS) * VOLATILITY_BARS
    net = np.abs(window_sums(returns, TREND_BARS))
    part, whole = TREND_EFFICIENCY
    trending = (net * whole >= window_sums(moves, TREND_BARS) * part) & (net > 0)
    return (2 * wild + trending).astype(np.int8)


def window_sums(values: NDArray[Any], window: int) -> IntArray:
    """The sum of the last `window` values at each place of the last axis, of those there are."""
    sums = np.cumsum(values, axis=-1, dtype=np.int64)
    sums[..., window:] -= sums[..., :-window].copy()
    return sums
