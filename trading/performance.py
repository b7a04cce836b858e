"""How well a series of trades went: one function of trades and equity. Pure.

Crypto trades every day, so a year has 365. Whatever is undefined is None, never NaN and never 0.
`returns` knows the figures of equity, `roundtrips` those of trades.

Against the package empyrical-reloaded, called with 365 days a year, on marks at midnights:
sharpe_ratio, sortino_ratio (required return: the daily risk-free rate), volatility,
annualised_return, calmar_ratio, value_at_risk, expected_shortfall, alpha and beta are the same
numbers, but for what follows.
- Losses are positive here: max_drawdown, value_at_risk, expected_shortfall.
- Its drawdown knows daily returns only; ours every mark, so that with marks within days ours is as
  deep or deeper, and the Calmar ratio as small or smaller.
- Where it gives NaN or an infinity (the Sharpe ratio of a flat series, no losing day), we give
  None; so do we for an annual return of one day, for a tail of fewer than 20 days, and for the
  Sortino ratio of a flat series, which it computes.
- Its annual figures end with the last return; ours, too, count days and not hours: a first or last
  day that was cut short is a day.
- It has no figures of trades, exposure, turnover and costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trading.returns import (
    DAY_MS,
    alpha_beta,
    annualised_return,
    daily_returns,
    deepest_drawdown,
    expected_shortfall,
    sharpe_ratio,
    sortino_ratio,
    value_at_risk,
    volatility,
)
from trading.roundtrips import (
    RoundTrip,
    TradeColumns,
    by_group,
    total,
    trade_columns,
    trade_figures,
)

__all__ = ["DAY_MS", "RISK_FREE_RATE", "RoundTrip", "by_group", "measure_performance"]

RISK_FREE_RATE = 0.02  # a year

Metrics = dict[str, float | int | None]


def measure_performance(
    *,
    trades: Sequence[RoundTrip],
    times: Sequence[int],
    equity: Sequence[float],
    initial_capital: float,
    fees_paid: float,
    slippage_paid: float | None = None,
    funding_paid: float | None = None,
    traded_notional: float | None = None,
    exposure: Sequence[float] | None = None,
    benchmark: Sequence[float] | None = None,
    risk_free_rate: float = RISK_FREE_RATE,
    columns: TradeColumns | None = None,
) -> Metrics:
    """Every metric of trades and of equity (quote units) marked at `times` (ms, ascending).

    `initial_capital` stands before the first mark, and one mark a day counts for ratios: the
    day's last. `exposure` is the gross exposure and `benchmark` the worth of the same capital
    bought and held, both at `times`; without them what they give is None. Costs that are not
    given are those of the closed trades. Trades win and lose net of fees and with funding; shares
    are fractions, losses positive, funding paid is negative where it was received. `columns` are
    those of `trades`, for who has them already.

    Raises ValueError when the series differ in length.
    """
    marks = np.asarray(equity, dtype=np.float64)
    table = trade_columns(trades) if columns is None else columns
    final = float(marks[-1]) if len(marks) else initial_capital
    gain = final / initial_capital - 1.0 if initial_capital > 0.0 else None
    returns = daily_returns(times=times, equity=marks, initial_capital=initial_capital)
    if slippage_paid is None:
        slippage_paid = total(table.slippage)
    if funding_paid is None:
        funding_paid = -total(table.funding)
    if traded_notional is None:
        traded_notional = total(table.notional)
    average = float(marks.mean()) if len(marks) else initial_capital
    return {
        "initial_capital": initial_capital,
        "final_value": final,
        "total_return": gain,
        **_ratios(returns, gain, risk_free_rate),
        **_falls(times, marks, initial_capital, gain, len(returns)),
        **trade_figures(table),
        **_exposures(exposure, marks),
        "traded_notional": traded_notional,
        "turnover": traded_notional / average if average > 0.0 else None,
        "fees_paid": fees_paid,
        "slippage_paid": slippage_paid,
        "funding_paid": funding_paid,
        **_against(benchmark, times, returns, gain, initial_capital, risk_free_rate),
    }


def _ratios(returns: NDArray[np.float64], gain: float | None, risk_free_rate: float) -> Metrics:
    return {
        "annualised_return": annualised_return(gain, len(returns)),
        "volatility": volatility(returns),
        "sharpe_ratio": sharpe_ratio(returns, risk_free_rate),
        "sortino_ratio": sortino_ratio(returns, risk_free_rate),
        "value_at_risk": value_at_risk(returns),
        "expected_shortfall": expected_shortfall(returns),
    }


def _falls(
    times: Sequence[int],
    marks: NDArray[np.float64],
    initial_capital: float,
    gain: float | None,
    days: int,
) -> Metrics:
    """The drawdowns, and the annual return over the deepest (Terry W. Young's Calmar ratio, 1991,
    over the whole time and not its last three years)."""
    fall = deepest_drawdown(times=times, equity=marks, initial_capital=initial_capital)
    annual = annualised_return(gain, days)
    return {
        "calmar_ratio": annual / fall.share if fall and fall.share and annual is not None else None,
        "max_drawdown": fall.share if fall else None,
        "max_drawdown_amount": fall.amount if fall else None,
        "max_drawdown_days": fall.days if fall else None,
        "longest_drawdown_days": fall.longest_days if fall else None,
    }


def _exposures(exposure: Sequence[float] | None, marks: NDArray[np.float64]) -> Metrics:
    """Gross exposure over equity at the marks, and the share of marks that had any."""
    names = ("average_exposure", "largest_exposure", "time_in_market")
    if exposure is None:
        return dict.fromkeys(names)
    held = np.asarray(exposure, dtype=np.float64)
    if held.shape != marks.shape:
        raise ValueError(f"{held.size} exposures for {marks.size} marks of equity")
    is_alive = marks > 0.0
    if not is_alive.any():
        return dict.fromkeys(names)
    shares = held[is_alive] / marks[is_alive]
    values = (float(shares.mean()), float(shares.max()), float((held > 0.0).mean()))
    return dict(zip(names, values, strict=True))


def _against(
    benchmark: ArrayLike | None,
    times: Sequence[int],
    returns: NDArray[np.float64],
    gain: float | None,
    initial_capital: float,
    risk_free_rate: float,
) -> Metrics:
    """The same figures of buying and holding, and ours against it."""
    worth = np.asarray([] if benchmark is None else benchmark, dtype=np.float64)
    if benchmark is not None and len(worth) != len(times):
        raise ValueError(f"{worth.size} marks of the benchmark for {len(times)} times")
    theirs = daily_returns(
        times=times if len(worth) else (), equity=worth, initial_capital=initial_capital
    )
    held = float(worth[-1]) / initial_capital - 1.0 if len(theirs) else None
    fall = deepest_drawdown(times=times, equity=worth, initial_capital=initial_capital)
    alpha, beta = alpha_beta(returns, theirs, risk_free_rate)
    return {
        "benchmark_return": held,
        "benchmark_annualised_return": annualised_return(held, len(theirs)),
        "benchmark_volatility": volatility(theirs),
        "benchmark_sharpe_ratio": sharpe_ratio(theirs, risk_free_rate),
        "benchmark_max_drawdown": fall.share if fall else None,
        "excess_return": gain - held if gain is not None and held is not None else None,
        "alpha": alpha,
        "beta": beta,
    }
