"""Metrics by hand; what is undefined is None."""

import math
import statistics

import pytest

from trading.performance import DAY_MS, RoundTrip, by_group, max_drawdown, measure_performance


def trip(pnl: float, fees: float = 1.0, instrument: str = "bitcoin") -> RoundTrip:
    return RoundTrip(
        instrument=instrument,
        strategy="consensus",
        direction=1,
        quantity=1.0,
        entry_price=100.0,
        exit_price=100.0 + pnl,
        pnl=pnl,
        fees=fees,
        entered_at=0,
        exited_at=2 * 3_600_000,
        exit_reason="signal",
    )


def test_a_flat_series_has_no_ratio() -> None:
    metrics = measure_performance(
        trades=[],
        times=[DAY_MS * day for day in range(1, 6)],
        equity=[100.0] * 5,
        initial_capital=100.0,
        fees_paid=0.0,
    )
    assert metrics["total_return"] == 0.0
    assert metrics["max_drawdown"] == 0.0
    assert metrics["trade_count"] == 0
    for name in ("sharpe_ratio", "win_rate", "profit_factor", "expectancy", "average_win"):
        assert metrics[name] is None


def test_nothing_at_all_is_no_error() -> None:
    metrics = measure_performance(
        trades=[], times=[], equity=[], initial_capital=100.0, fees_paid=0.0
    )
    assert metrics["final_value"] == 100.0
    assert metrics["max_drawdown"] is None
    assert metrics["annualised_return"] is None


def test_sharpe_is_daily_excess_over_deviation_of_365_days() -> None:
    equity = [101.0, 100.0, 103.0, 104.0]
    metrics = measure_performance(
        trades=[],
        times=[DAY_MS * day for day in range(1, 5)],
        equity=equity,
        initial_capital=100.0,
        fees_paid=0.0,
    )
    before = [100.0, *equity[:-1]]
    returns = [now / then - 1.0 for now, then in zip(equity, before, strict=True)]
    excess = statistics.mean(returns) - 0.02 / 365
    expected = excess / statistics.stdev(returns) * math.sqrt(365)
    assert metrics["sharpe_ratio"] == pytest.approx(expected)
    assert metrics["annualised_return"] == pytest.approx(1.04 ** (365 / 3) - 1)


def test_hourly_marks_count_by_their_day() -> None:
    """Midnight ends the day before it."""
    times = [hour * 3_600_000 for hour in range(1, 49)]
    equity = [100.0 + hour for hour in range(1, 49)]
    metrics = measure_performance(
        trades=[], times=times, equity=equity, initial_capital=100.0, fees_paid=0.0
    )
    returns = [124 / 100 - 1, 148 / 124 - 1]
    assert metrics["volatility"] == pytest.approx(statistics.stdev(returns) * math.sqrt(365))


def test_trades_count_net_of_fees() -> None:
    trades = [trip(11.0), trip(-4.0), trip(0.5, instrument="ethereum")]
    metrics = measure_performance(
        trades=trades, times=[DAY_MS], equity=[104.5], initial_capital=100.0, fees_paid=3.0
    )
    assert (metrics["win_count"], metrics["loss_count"]) == (1, 2)
    assert metrics["win_rate"] == pytest.approx(1 / 3)
    assert metrics["profit_factor"] == pytest.approx(10.0 / 5.5)
    assert metrics["largest_loss"] == pytest.approx(5.0)
    assert metrics["average_holding_hours"] == pytest.approx(2.0)
    groups = by_group(trades, "instrument")
    assert groups["bitcoin"] == {"count": 2, "net": 5.0}


def test_the_deepest_fall_counts_from_the_capital() -> None:
    assert max_drawdown([90.0, 120.0, 60.0, 130.0], 100.0) == pytest.approx(0.5)
    assert max_drawdown([90.0], 100.0) == pytest.approx(0.1)


def test_a_lost_account_has_no_annual_return() -> None:
    metrics = measure_performance(
        trades=[],
        times=[DAY_MS, 2 * DAY_MS, 3 * DAY_MS],
        equity=[50.0, 0.0, 0.0],
        initial_capital=100.0,
        fees_paid=0.0,
    )
    assert metrics["total_return"] == -1.0
    assert metrics["annualised_return"] is None
