"""The figures of equity against an independent package, where both mean the same."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

from trading.performance import DAY_MS, measure_performance

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what the package might import, were it there
    import empyrical

RATE = 0.02
YEAR = {"annualization": 365}
EXACT: dict[str, Any] = {"rel": 1e-12, "abs": 0.0}


def worlds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Daily returns of some months or years with jumps, and those of a market beside them."""
    random = np.random.default_rng(seed)
    days = int(random.integers(30, 1500))
    market = random.standard_t(3, days) * 0.02 + 0.002
    ours = 0.4 * market + random.standard_t(4, days) * 0.015 + 0.001
    return np.clip(ours, -0.4, 0.6), np.clip(market, -0.5, 0.8)


def measured(returns: np.ndarray, market: np.ndarray) -> dict[str, float | int | None]:
    equity = 10_000.0 * np.cumprod(1.0 + returns)
    return measure_performance(
        trades=[],
        times=[DAY_MS * day for day in range(101, 101 + len(returns))],
        equity=equity.tolist(),
        initial_capital=10_000.0,
        fees_paid=0.0,
        benchmark=(10_000.0 * np.cumprod(1.0 + market)).tolist(),
        risk_free_rate=RATE,
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_same_numbers_as_the_package(seed: int) -> None:
    returns, market = worlds(seed)
    # What the package is given is what the equity says, with its roundings.
    equity = np.append(10_000.0, 10_000.0 * np.cumprod(1.0 + returns))
    held = np.append(10_000.0, 10_000.0 * np.cumprod(1.0 + market))
    returns, market = equity[1:] / equity[:-1] - 1.0, held[1:] / held[:-1] - 1.0
    daily = RATE / 365
    alpha, beta = empyrical.alpha_beta_aligned(returns, market, risk_free=daily, **YEAR)
    expected = {
        "total_return": empyrical.cum_returns_final(returns),
        "annualised_return": empyrical.annual_return(returns, **YEAR),
        "volatility": empyrical.annual_volatility(returns, **YEAR),
        "sharpe_ratio": empyrical.sharpe_ratio(returns, risk_free=daily, **YEAR),
        "sortino_ratio": empyrical.sortino_ratio(returns, required_return=daily, **YEAR),
        "calmar_ratio": empyrical.calmar_ratio(returns, **YEAR),
        "max_drawdown": -empyrical.max_drawdown(returns),
        "value_at_risk": -empyrical.value_at_risk(returns),
        "expected_shortfall": -empyrical.conditional_value_at_risk(returns),
        "benchmark_return": empyrical.cum_returns_final(market),
        "benchmark_sharpe_ratio": empyrical.sharpe_ratio(market, risk_free=daily, **YEAR),
        "benchmark_max_drawdown": -empyrical.max_drawdown(market),
        "beta": beta,
    }
    metrics = measured(*worlds(seed))
    # A mean near nothing, to the power of 365: the growth is what can be compared.
    assert 1.0 + (metrics["alpha"] or 0.0) == pytest.approx(1.0 + alpha, **EXACT)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, **EXACT)


def test_where_we_differ_is_where_we_say_so() -> None:
    flat = np.zeros(40)
    with np.errstate(all="ignore"):
        assert math.isnan(empyrical.sharpe_ratio(flat, **YEAR))
        assert math.isinf(empyrical.sortino_ratio(np.full(40, 0.01), **YEAR))
        assert empyrical.sortino_ratio(flat, required_return=RATE / 365, **YEAR) < 0.0
    metrics = measured(flat, flat)
    assert metrics["sortino_ratio"] is None
    assert metrics["sharpe_ratio"] is metrics["calmar_ratio"] is metrics["beta"] is None
    assert measured(np.full(40, 0.01), flat)["sortino_ratio"] is None
    few = np.array([0.01, -0.02, 0.03])
    assert math.isfinite(empyrical.value_at_risk(few))
    assert measured(few, few)["value_at_risk"] is None
    assert math.isfinite(empyrical.annual_return(few[:1], **YEAR))
    assert measured(few[:1], few[:1])["annualised_return"] is None


def test_marks_within_days_see_deeper_falls() -> None:
    times = [DAY_MS * 100 + hour * 3_600_000 for hour in range(12, 60, 12)]
    equity = [80.0, 100.0, 70.0, 100.0]
    metrics = measure_performance(
        trades=[], times=times, equity=equity, initial_capital=100.0, fees_paid=0.0
    )
    assert metrics["max_drawdown"] == pytest.approx(0.3)
    assert metrics["volatility"] == 0.0
