"""What a series of equity says: its daily returns, their ratios, its falls from the peak. Pure.

Crypto trades every day, so a year has 365. Shares are fractions, losses positive. What is undefined
is None, never NaN and never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

DAYS_PER_YEAR = 365.0
DAY_MS = 86_400_000
TAIL = 0.05  # the worst twentieth of days
NOISE = 1e-12  # returns that differ by less are equal
LEAST_TAIL_DAYS = 20  # of fewer days there is no worst twentieth

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Drawdown:
    """The deepest fall from a running maximum, and how long a fall lasted at most.

    `share` is a fraction of the peak, `amount` in quote units; `days` run from the peak of this
    fall until equity is back there, or to the last mark; `longest_days` are those of the longest.
    """

    share: float
    amount: float
    days: float
    longest_days: float


def daily_returns(
    *, times: Sequence[int], equity: ArrayLike, initial_capital: float
) -> NDArray[np.float64]:
    """Simple returns from one UTC day's last mark to the next, the first from the capital.

    `times` are epoch milliseconds, ascending; a mark at midnight ends the day before it. A day
    without a mark repeats the one before. Stops where equity is not positive. Raises ValueError
    when times and equity differ in number.
    """
    moments, values = np.asarray(times, dtype=np.int64), np.asarray(equity, dtype=np.float64)
    if moments.shape != values.shape:
        raise ValueError(f"{moments.size} times for {values.size} marks of equity")
    if not len(values) or initial_capital <= 0.0:
        return np.empty(0)
    days = (moments - 1) // DAY_MS
    last = np.flatnonzero(np.append(days[1:] != days[:-1], True))
    marks = np.repeat(values[last], np.diff(days[last], append=days[-1] + 1))
    before = np.append(initial_capital, marks[:-1])
    lost = np.flatnonzero(before <= 0.0)
    kept = int(lost[0]) if len(lost) else len(marks)
    returns: Floats = marks[:kept] / before[:kept] - 1.0
    return returns


def annualised_return(total: float | None, days: int) -> float | None:
    """The yearly growth that makes `total` of `days` days. None for a single day or a total loss.

    A few hours blown up to a year say nothing, so one day gives none.
    """
    return None if total is None or days < 2 else _compounded(total, DAYS_PER_YEAR / days)


def volatility(returns: Floats) -> float | None:
    """The standard deviation (n - 1) of daily returns, times sqrt(365)."""
    if len(returns) < 2:
        return None
    return float(returns.std(ddof=1)) * math.sqrt(DAYS_PER_YEAR)


def sharpe_ratio(returns: Floats, risk_free_rate: float) -> float | None:
    """Mean excess over the standard deviation (n - 1) of daily returns, times sqrt(365).

    William F. Sharpe, "The Sharpe Ratio", 1994; the yearly rate counts by 1/365 a day. None for
    fewer than two days or a flat series.
    """
    if _is_flat(returns):
        return None
    excess = float((returns - risk_free_rate / DAYS_PER_YEAR).mean())
    return excess / float(returns.std(ddof=1)) * math.sqrt(DAYS_PER_YEAR)


def sortino_ratio(returns: Floats, risk_free_rate: float) -> float | None:
    """Mean excess over the downside deviation of daily returns, times sqrt(365).

    Frank A. Sortino and Lee N. Price, "Performance Measurement in a Downside Risk Framework", 1994:
    the risk-free rate is the target, and the deviation the root of the mean square shortfall over
    all days, not over the losing ones alone. None for fewer than two days, a flat series, or
    without a shortfall.
    """
    if _is_flat(returns):
        return None
    excess = returns - risk_free_rate / DAYS_PER_YEAR
    downside = math.sqrt(float(np.square(np.minimum(excess, 0.0)).mean()))
    if downside == 0.0:
        return None
    return float(excess.mean()) / downside * math.sqrt(DAYS_PER_YEAR)


def value_at_risk(returns: Floats) -> float | None:
    """The loss of a day that one day in twenty exceeds, as it was: minus the 5% quantile.

    Negative where even that day gained. None for fewer than 20 days.
    """
    if len(returns) < LEAST_TAIL_DAYS:
        return None
    return -float(np.percentile(returns, 100.0 * TAIL))


def expected_shortfall(returns: Floats) -> float | None:
    """The mean loss of the worst days, those up to the 5% quantile. None for fewer than 20 days."""
    if len(returns) < LEAST_TAIL_DAYS:
        return None
    count = int((len(returns) - 1) * TAIL) + 1
    return -float(np.partition(returns, count - 1)[:count].mean())


def alpha_beta(
    returns: Floats, benchmark: Floats, risk_free_rate: float
) -> tuple[float | None, float | None]:
    """(alpha a year, beta) of daily returns against a benchmark's of the same days.

    Beta is the covariance over the benchmark's variance; alpha the mean of what beta does not
    explain, compounded over 365 days (Michael C. Jensen, 1968). None for fewer than two days or a
    flat benchmark.
    """
    if len(returns) != len(benchmark) or _is_flat(benchmark):
        return None, None
    daily = risk_free_rate / DAYS_PER_YEAR
    ours, theirs = returns - daily, benchmark - daily
    centred = theirs - theirs.mean()
    beta = float((ours * centred).mean() / np.square(centred).mean())
    return _compounded(float((ours - beta * theirs).mean()), DAYS_PER_YEAR), beta


def underwater(equity: ArrayLike, initial_capital: float) -> Floats:
    """Each mark's fall from the running maximum so far, a fraction; the capital is the first."""
    values = np.asarray(equity, dtype=np.float64)
    peak = _peaks(values, initial_capital)
    shares = np.zeros(len(values))
    np.divide(peak - values, peak, out=shares, where=peak > 0.0)
    return shares


def deepest_drawdown(
    *, times: Sequence[int], equity: ArrayLike, initial_capital: float
) -> Drawdown | None:
    """The deepest fall of the marks at `times` (ms); None without marks.

    The capital is the first peak, of the time of the first mark.
    """
    moments, values = np.asarray(times, dtype=np.int64), np.asarray(equity, dtype=np.float64)
    if not len(values):
        return None
    shares = underwater(values, initial_capital)
    bottom = int(shares.argmax())
    # From a high to the next one, or from the first mark, or to the last.
    bounds = np.unique(np.concatenate([[0], np.flatnonzero(shares == 0.0), [len(values) - 1]]))
    first, last = bounds[:-1], bounds[1:]
    is_fall = (last - first > 1) | (shares[first] > 0.0) | (shares[last] > 0.0)
    lengths = np.where(is_fall, moments[last] - moments[first], 0) / DAY_MS
    around = lengths[(first <= bottom) & (bottom <= last)]
    return Drawdown(
        share=float(shares[bottom]),
        amount=max(float(_peaks(values, initial_capital)[bottom] - values[bottom]), 0.0),
        days=float(around.max(initial=0.0)) if shares[bottom] > 0.0 else 0.0,
        longest_days=float(lengths.max(initial=0.0)),
    )


def _peaks(values: Floats, initial_capital: float) -> Floats:
    return np.maximum(np.maximum.accumulate(values), initial_capital)


def _is_flat(returns: Floats) -> bool:
    # A steady growth is not quite the same number every day: each is off by its last bits.
    return len(returns) < 2 or float(np.ptp(returns)) < NOISE


def _compounded(growth: float, times: float) -> float | None:
    """(1 + growth) to the power of `times`, less 1; None for a total loss or beyond all numbers."""
    if growth <= -1.0:
        return None
    try:
        return math.expm1(math.log1p(growth) * times)
    except OverflowError:
        return None
