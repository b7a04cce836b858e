"""Metrics by hand; what is undefined is None."""

import math
import statistics
from typing import Any

import pytest

from trading.performance import DAY_MS, RoundTrip, by_group, measure_performance

HOUR_MS = 3_600_000


def trip(pnl: float, fees: float = 1.0, **fields: Any) -> RoundTrip:
    values: dict[str, Any] = {
        "instrument": "bitcoin",
        "strategy": "consensus",
        "direction": 1,
        "quantity": 1.0,
        "entry_price": 100.0,
        "exit_price": 100.0 + pnl,
        "entered_at": 0,
        "exited_at": 2 * HOUR_MS,
        "exit_reason": "signal",
    }
    return RoundTrip(pnl=pnl, fees=fees, **values | fields)


def measured(equity: list[float], **fields: Any) -> dict[str, float | int | None]:
    """The metrics of a hundred that became `equity`, marked at midnights."""
    values: dict[str, Any] = {
        "trades": [],
        "times": [DAY_MS * day for day in range(1, len(equity) + 1)],
        "initial_capital": 100.0,
        "fees_paid": 0.0,
    }
    return measure_performance(equity=equity, **values | fields)


def test_a_flat_series_has_no_ratio() -> None:
    metrics = measured([100.0] * 5)
    for name in ("total_return", "max_drawdown", "max_drawdown_days", "longest_drawdown_days"):
        assert metrics[name] == 0.0, name
    for name in ("sharpe_ratio", "sortino_ratio", "calmar_ratio", "win_rate", "profit_factor"):
        assert metrics[name] is None, name
    # So does a steady fall, whose returns differ in their last bits.
    steady = measured([100.0 * 0.9**day for day in range(1, 7)])
    assert steady["sharpe_ratio"] is steady["sortino_ratio"] is None
    assert steady["calmar_ratio"] is not None


def test_nothing_at_all_is_no_error() -> None:
    metrics = measured([], benchmark=[], exposure=[])
    counts = {"trade_count", "win_count", "loss_count"}
    paid = {"traded_notional", "turnover", "fees_paid", "slippage_paid", "funding_paid"}
    known = {"initial_capital": 100.0, "final_value": 100.0, "total_return": 0.0}
    for name, value in metrics.items():
        expected = 0 if name in counts | paid else known.get(name)
        assert value == expected, name


def test_sharpe_is_daily_excess_over_deviation_of_365_days() -> None:
    equity = [101.0, 100.0, 103.0, 104.0]
    metrics = measured(equity)
    before = [100.0, *equity[:-1]]
    returns = [now / then - 1.0 for now, then in zip(equity, before, strict=True)]
    excess = statistics.mean(returns) - 0.02 / 365
    expected = excess / statistics.stdev(returns) * math.sqrt(365)
    assert metrics["sharpe_ratio"] == pytest.approx(expected)
    assert metrics["annualised_return"] == pytest.approx(1.04 ** (365 / 4) - 1)
    below = [min(each - 0.02 / 365, 0.0) ** 2 for each in returns]
    downside = math.sqrt(statistics.mean(below))
    assert metrics["sortino_ratio"] == pytest.approx(excess / downside * math.sqrt(365))
    assert measured(equity, risk_free_rate=0.5)["sharpe_ratio"] < metrics["sharpe_ratio"]


def test_hourly_marks_count_by_their_day() -> None:
    """Midnight ends the day before it, and a day without a mark repeats the one before."""
    equity = [100.0 + hour for hour in range(1, 49)]
    times = [hour * HOUR_MS for hour in range(1, 49)]
    returns = [124 / 100 - 1, 148 / 124 - 1]
    metrics = measured(equity, times=times)
    assert metrics["volatility"] == pytest.approx(statistics.stdev(returns) * math.sqrt(365))
    gap = measured([*equity, 148.0 * 1.1], times=[*times, 96 * HOUR_MS])
    assert gap["volatility"] == pytest.approx(
        statistics.stdev([*returns, 0.0, 0.1]) * math.sqrt(365)
    )


def test_trades_count_net_of_fees_and_with_funding() -> None:
    trades = [
        trip(11.0, slippage=0.5),
        trip(-4.0, funding=-0.25),
        trip(0.5, instrument="ethereum", funding=1.5, strategy="momentum", exit_reason="stop_loss"),
        trip(1.0, instrument="ethereum"),  # no win and no loss
    ]
    metrics = measured([104.0], trades=trades, fees_paid=5.0)
    assert (metrics["trade_count"], metrics["win_count"], metrics["loss_count"]) == (4, 2, 1)
    assert metrics["win_rate"] == 0.5
    assert metrics["profit_factor"] == pytest.approx(11.0 / 5.25)
    assert metrics["expectancy"] == pytest.approx(5.75 / 4)
    assert metrics["average_win"] == pytest.approx(5.5)
    assert metrics["largest_win"] == 10.0
    assert metrics["average_loss"] == metrics["largest_loss"] == pytest.approx(5.25)
    assert metrics["average_holding_hours"] == pytest.approx(2.0)
    assert metrics["fees_paid"] == 5.0  # of all fills, those of open positions too
    assert metrics["slippage_paid"] == 0.5
    assert metrics["funding_paid"] == -1.25
    traded = 211.0 + 196.0 + 200.5 + 201.0
    assert metrics["traded_notional"] == pytest.approx(traded)
    assert metrics["turnover"] == pytest.approx(traded / 104.0)
    given = measured(
        [104.0], trades=trades, slippage_paid=3.0, funding_paid=4.0, traded_notional=208.0
    )
    assert (given["slippage_paid"], given["funding_paid"], given["turnover"]) == (3.0, 4.0, 2.0)


def test_groups_add_up_to_the_whole() -> None:
    trades = [trip(11.0), trip(-4.0, strategy="momentum"), trip(0.5, instrument="ethereum")]
    by_instrument = by_group(trades, "instrument")
    assert list(by_instrument) == ["bitcoin", "ethereum"]
    assert by_instrument["bitcoin"]["trade_count"] == 2
    assert by_instrument["bitcoin"]["net"] == 5.0
    assert by_instrument["ethereum"]["profit_factor"] == 0.0
    assert by_instrument["ethereum"]["average_win"] is None
    by_strategy = by_group(trades, "strategy")
    assert sum(group["net"] for group in by_strategy.values()) == 4.5
    assert by_group([], "exit_reason") == {}


def test_the_deepest_fall_counts_from_the_capital() -> None:
    metrics = measured([90.0, 120.0, 60.0, 100.0, 130.0, 129.0, 128.0, 127.0, 126.0, 125.0])
    assert metrics["max_drawdown"] == pytest.approx(0.5)
    assert metrics["max_drawdown_amount"] == pytest.approx(60.0)
    assert metrics["max_drawdown_days"] == 3.0  # from the peak until equity was there again
    assert metrics["longest_drawdown_days"] == 5.0  # of the last, which is not over
    assert measured([90.0])["max_drawdown"] == pytest.approx(0.1)
    unrecovered = measured([90.0, 95.0, 99.0])
    assert unrecovered["max_drawdown_days"] == 2.0
    # The deepest may be the last of all marks.
    assert measured([110.0, 120.0, 119.0, 60.0])["max_drawdown_days"] == 2.0


def test_exposure_is_a_share_of_equity() -> None:
    metrics = measured([100.0, 50.0, 100.0, 100.0], exposure=[0.0, 50.0, 20.0, 0.0])
    assert metrics["average_exposure"] == pytest.approx(0.3)
    assert metrics["largest_exposure"] == 1.0
    assert metrics["time_in_market"] == 0.5


def test_buying_and_holding_is_measured_beside() -> None:
    equity = [101.0, 100.0, 103.0]
    metrics = measured(equity, benchmark=[102.0, 100.0, 106.0])
    assert metrics["benchmark_return"] == pytest.approx(0.06)
    assert metrics["excess_return"] == pytest.approx(-0.03)
    assert metrics["benchmark_max_drawdown"] == pytest.approx(2 / 102)
    same = measured(equity, benchmark=equity)
    assert same["beta"] == pytest.approx(1.0)
    assert same["alpha"] == pytest.approx(0.0, abs=1e-12)
    assert same["benchmark_sharpe_ratio"] == same["sharpe_ratio"]
    flat = measured(equity, benchmark=[100.0] * 3)
    assert flat["beta"] is flat["alpha"] is flat["benchmark_sharpe_ratio"] is None


def test_a_lost_account_has_no_annual_return() -> None:
    metrics = measured([50.0, 0.0, 0.0], benchmark=[110.0, 120.0, 130.0], exposure=[10.0, 0.0, 0.0])
    assert metrics["total_return"] == -1.0
    assert metrics["max_drawdown"] == 1.0
    assert metrics["annualised_return"] is None
    assert metrics["average_exposure"] == 0.2
    assert metrics["beta"] is None
    assert metrics["benchmark_return"] == pytest.approx(0.3)


def test_a_rise_beyond_all_numbers_is_no_annual_return() -> None:
    assert measured([1e100, 1e200])["annualised_return"] is None


@pytest.mark.parametrize("name", ["exposure", "benchmark", "times"])
def test_series_of_another_length_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="marks"):
        measured([100.0, 101.0], **{name: [1]})
