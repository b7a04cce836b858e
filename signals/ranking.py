"""Where each instrument stands among its peers, day by day. Pure.

Arrays are (D, K), days by instruments, or (W, D, K), the W days of the window that ends on each of
D days. Every sum is added up one term after the other, in the order of its axis: NumPy's own sums
group their terms by the shape of the array, so a day's last digits would depend on how many other
days are computed with it. Results depend on the order of the instruments in sums and ties alone;
whoever calls sorts them by name.
"""

from __future__ import annotations

import numpy as np

from signals.strategy import BoolArray, FloatArray, IntArray

UNEXPLAINED = 1e-12  # of the variance: less than that is what rounding leaves


def sum_in_order(values: FloatArray, axis: int) -> FloatArray:
    """The sum over an axis, first term first, whatever the array's shape; 0 over no terms."""
    if axis in (-1, values.ndim - 1) and values.shape[-1]:
        return np.asarray(np.add.accumulate(values, axis=-1)[..., -1])
    terms = np.moveaxis(values, axis, 0)
    total = np.zeros(terms.shape[1:])
    for term in terms:
        total += term
    return total


def trailing_windows(values: FloatArray, window: int) -> FloatArray:
    """(window, D - window + 1, K): for each day that has them, its last `window` values, oldest
    first; no days where there are too few."""
    days = max(len(values) - window + 1, 0)
    lagged = [values[lag : lag + days] for lag in range(window)]
    return np.stack(lagged) if lagged else np.empty((0, days, values.shape[1]))


def positions(values: FloatArray, taking_part: BoolArray) -> IntArray:
    """(D, K): 0 for the day's lowest, and so on; those that do not take part come after all others.

    Of equal values the earlier column comes first.
    """
    order = np.argsort(np.where(taking_part, values, np.inf), axis=1, kind="stable")
    found = np.empty_like(order)
    np.put_along_axis(found, order, np.arange(values.shape[1])[np.newaxis], axis=1)
    return found


def centred_ranks(position: IntArray, taking_part: BoolArray) -> FloatArray:
    """Ranks among those that take part, scaled to run evenly from -1 (lowest) to 1 (highest).

    0 for those that do not take part, and where a day has fewer than two.
    """
    there = taking_part.sum(axis=1)[:, np.newaxis]
    steps = np.maximum(there - 1, 1)
    return np.where(taking_part & (there > 1), (2.0 * position - steps) / steps, 0.0)


def extremes(position: IntArray, taking_part: BoolArray, count: IntArray) -> FloatArray:
    """1.0 for the `count` (D,) highest of those that take part, -1.0 for as many lowest, else 0.

    A day on which fewer than 2 x `count` take part has none.
    """
    there = taking_part.sum(axis=1)
    wanted = np.where(2 * count <= there, count, 0)[:, np.newaxis]
    is_high = taking_part & (position >= there[:, np.newaxis] - wanted)
    is_low = taking_part & (position < wanted)
    return np.asarray(is_high.astype(np.float64) - is_low)


def market_returns(windows: FloatArray, taking_part: BoolArray) -> FloatArray:
    """(W, D): the mean return of those that take part on the last day, equally weighted, for each
    day of its window; 0 where nobody does."""
    total = sum_in_order(np.where(taking_part, windows, 0.0), axis=2)
    return np.asarray(total / np.maximum(taking_part.sum(axis=1), 1))


def volatility(windows: FloatArray) -> FloatArray:
    """(D, K): the sample standard deviation of each window's W >= 2 returns."""
    centred = _centred(windows)
    return np.asarray(np.sqrt(sum_in_order(centred * centred, axis=0) / (len(windows) - 1)))


def residual_momentum(windows: FloatArray, market: FloatArray, recent: slice) -> FloatArray:
    """(D, K): what the market does not explain of the `recent` returns, in standard deviations.

    Over each window of W returns r = a + b x m + e is fitted by least squares with the market's
    returns m (W, D): b = cov(r, m) / var(m), and 0 where the market stood still. The result is
    the sum of the residuals e of the days `recent` of the window, divided by their standard
    deviation over all of it (W - 2 degrees of freedom). All residuals add up to 0, so `recent`
    has to be a part of the window. 0 where the market explains everything. W is at least 3.

    Source: D. Blitz, J. Huij, M. Martens, "Residual Momentum", Journal of Empirical Finance 18
    (2011), there with three factors and monthly returns of stocks.
    """
    returns, factor = _centred(windows), _centred(market)[:, :, np.newaxis]
    spread = sum_in_order(factor * factor, axis=0)
    together = sum_in_order(returns * factor, axis=0)
    slope = np.where(spread > 0.0, together / np.where(spread > 0.0, spread, 1.0), 0.0)
    residuals = returns - slope * factor
    unexplained = sum_in_order(residuals * residuals, axis=0)
    variance = sum_in_order(returns * returns, axis=0)
    says_something = unexplained > UNEXPLAINED * variance
    deviation = np.sqrt(np.where(says_something, unexplained, 1.0) / (len(windows) - 2))
    drift = sum_in_order(residuals[recent], axis=0)
    return np.where(says_something, drift / deviation, 0.0)


def _centred(windows: FloatArray) -> FloatArray:
    return np.asarray(windows - sum_in_order(windows, axis=0) / len(windows))
