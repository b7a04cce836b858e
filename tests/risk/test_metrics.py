"""Heat and tail risk against NumPy and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from risk.facts import InstrumentFacts, Surroundings
from risk.metrics import portfolio_heat, tail_risk
from risk.portfolio import Portfolio

EXPOSURES = {"bitcoin": 2_000.0, "ethereum": 1_000.0, "fetch-ai": -500.0}
SECTORS = {"bitcoin": "store of value", "ethereum": "layer 1", "fetch-ai": "ai"}


def daily(days: int = 365) -> np.ndarray:
    """(days, 3): fat-tailed returns that move together."""
    rng = np.random.default_rng(11)
    market = rng.standard_t(4, (days, 1)) * 0.02
    return market * [1.0, 1.3, 1.6] + rng.normal(0.0, 0.01, (days, 3))


def held(exposures: dict[str, float]) -> Portfolio:
    return Portfolio(
        equity=10_000.0,
        cash=10_000.0,
        open_risk=0.0,
        high_water_mark=10_000.0,
        day_start_equity=10_000.0,
        exposures=exposures,
    )


@pytest.mark.parametrize("confidence", [0.90, 0.95, 0.99])
def test_the_tail_is_that_of_numpy_and_scipy(confidence: float) -> None:
    returns, weights = daily(), np.array(list(EXPOSURES.values()))
    tail = tail_risk(weights.tolist(), returns.T.tolist(), confidence=confidence)
    losses = -(returns @ weights)
    var = np.quantile(losses, confidence)
    assert tail.days == 365
    assert tail.historical_var == pytest.approx(var)
    assert tail.historical_shortfall == pytest.approx(losses[losses >= var].mean())
    deviation = math.sqrt(weights @ np.cov(returns.T) @ weights)
    assert tail.parametric_var == pytest.approx(stats.norm.ppf(confidence) * deviation)
    beyond = stats.norm.expect(lambda x: x, lb=stats.norm.ppf(confidence), conditional=True)
    assert tail.parametric_shortfall == pytest.approx(beyond * deviation, rel=1e-6)


def test_days_that_one_lacks_are_left_out() -> None:
    returns = daily(40)
    returns[:5, 1] = math.nan
    tail = tail_risk(list(EXPOSURES.values()), returns.T.tolist())
    assert tail == tail_risk(list(EXPOSURES.values()), returns[5:].T.tolist())
    assert tail.days == 35


@pytest.mark.parametrize(("exposures", "days"), [([], 0), ([1_000.0], 29)])
def test_without_days_or_holdings_nothing_is_claimed(exposures: list[float], days: int) -> None:
    tail = tail_risk(exposures, [[0.01] * days for _ in exposures])
    assert tail.days == days
    assert (tail.historical_var, tail.historical_shortfall) == (None, None)
    assert (tail.parametric_var, tail.parametric_shortfall) == (None, None)


def test_heat_by_instrument_sector_and_direction() -> None:
    returns = daily(29)
    facts = {
        name: InstrumentFacts(0.04, 0.03, 1e8, tuple(returns[:, column].tolist()))
        for column, name in enumerate(EXPOSURES)
    }
    year = {name: daily()[:, column].tolist() for column, name in enumerate(EXPOSURES)}
    around = Surroundings(facts=facts, sectors=SECTORS | {"render-token": "ai"})
    heat = portfolio_heat(held(EXPOSURES), around, year)
    assert heat.by_instrument == {"bitcoin": 0.2, "ethereum": 0.1, "fetch-ai": -0.05}
    assert heat.by_sector == {"store of value": 0.2, "layer 1": 0.1, "ai": 0.05}
    assert heat.by_direction == pytest.approx(
        {"long": 0.3, "short": 0.05, "gross": 0.35, "net": 0.25}
    )
    shares = np.array([0.2, 0.1, -0.05])
    correlation = np.corrcoef(returns.T)
    expected = math.sqrt(shares @ correlation @ shares)
    assert heat.correlation_weighted == pytest.approx(expected)
    assert heat.correlations["bitcoin", "ethereum"] == pytest.approx(correlation[0, 1])
    assert heat.tail == tail_risk(list(EXPOSURES.values()), list(year.values()))


def test_an_unknown_correlation_counts_as_moving_as_one() -> None:
    heat = portfolio_heat(
        held({"bitcoin": 1_000.0, "ethereum": -2_000.0}),
        Surroundings(),
        {"bitcoin": [], "ethereum": []},
    )
    assert heat.correlations == {("bitcoin", "ethereum"): None}
    assert heat.correlation_weighted == pytest.approx(0.3)
    assert heat.by_sector == pytest.approx({"bitcoin": 0.1, "ethereum": 0.2})


@pytest.mark.parametrize("equity", [0.0, -1.0, math.nan])
def test_there_is_no_heat_without_equity(equity: float) -> None:
    portfolio = Portfolio(
        equity=equity, cash=0.0, open_risk=0.0, high_water_mark=1.0, day_start_equity=1.0
    )
    with pytest.raises(ValueError, match="share of equity"):
        portfolio_heat(portfolio, Surroundings(), {})
