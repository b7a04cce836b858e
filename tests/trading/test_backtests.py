"""Backtests as rows: run once under a lease, retaken when abandoned, at the command line."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from collectors.models import FundingRate, Listing, MacroObservation, MacroSeries, Ohlcv
from signals.codehash import code_hash
from signals.models import StrategyConfig
from signals.registry import build_strategy
from tests.factories import make_user
from trading import tasks
from trading.backtest_record import BacktestRecord
from trading.models import Backtest, BacktestState
from trading.services import (
    BacktestError,
    backtest_requests,
    cancel_backtest,
    create_backtest,
    execute_backtest,
    expired_backtests,
)

HOUR = timedelta(hours=1)
HISTORY = datetime.fromisoformat("2021-03-25T00:00:00+00:00")
START = datetime.fromisoformat("2021-05-01T00:00:00+00:00")
END = datetime.fromisoformat("2021-05-10T00:00:00+00:00")
pytestmark = pytest.mark.django_db


@pytest.fixture
def crash(world: Any, db: None) -> Any:
    """Bitcoin falls by a fifth on the third of May and recovers, with the VIX at 30."""
    world.at(END + HOUR)
    instrument = world.listed("bitcoin")
    bars = (END - HISTORY) // HOUR
    steps = 0.0005 * np.random.default_rng(5).normal(size=bars)
    fall = (START - HISTORY) // HOUR + 48
    steps[fall : fall + 9] -= 0.025
    steps[fall + 12 : fall + 24] += 0.02
    close = (100.0 * np.exp(np.cumsum(steps))).tolist()
    opened = [close[0], *close[:-1]]
    Ohlcv.objects.bulk_create(
        Ohlcv(
            instrument=instrument,
            timeframe="1h",
            open_time=HISTORY + index * HOUR,
            open=opened[index],
            high=max(opened[index], close[index]),
            low=min(opened[index], close[index]),
            close=close[index],
            volume=1e5,
            source="binance",
            received_at=HISTORY,
        )
        for index in range(bars)
    )
    series = MacroSeries.objects.create(
        series_id="VIXCLS", name="VIX", units="index", frequency="daily"
    )
    for day in range(0, bars // 24, 5):
        released = HISTORY + timedelta(days=day)
        MacroObservation.objects.create(
            series=series,
            date=released.date(),
            value=18.0 if day < 20 else 30.0,
            realtime_start=released.date(),
            released_at=released,
            received_at=released,
        )
    return world


def asked(**fields: Any) -> Backtest:
    values = {
        "strategy_name": "mean_reversion",
        "instruments": ["bitcoin"],
        "start": START,
        "end": END,
    }
    return create_backtest(**{**values, **fields})


def test_a_backtest_is_run_and_stored(crash: Any) -> None:
    backtest = asked()
    tasks.run_backtest(backtest.pk)
    backtest.refresh_from_db()
    assert (backtest.state, backtest.error) == (BacktestState.DONE, "")
    assert backtest.trade_count and backtest.trade_count > 0
    assert backtest.final_value is not None
    expected = float(backtest.final_value / backtest.initial_capital) - 1.0
    assert backtest.total_return == pytest.approx(expected)
    assert backtest.metrics["bars"] == (END - START) // HOUR
    assert set(backtest.revisions) == {"candles:bitcoin:1h", "macro:VIXCLS"}
    assert len(backtest.metrics["daily_equity"]) == 9
    assert 0.0 < backtest.metrics["average_exposure"] <= backtest.metrics["largest_exposure"] < 1.01
    assert backtest.metrics["benchmark_return"] is not None
    assert backtest.metrics["slippage_paid"] is None
    assert backtest.leased_until is None


def test_stored_settlements_are_paid(crash: Any) -> None:
    FundingRate.objects.bulk_create(
        FundingRate(
            instrument=crash.listed("bitcoin"),
            exchange=exchange,
            symbol="BITCOINUSDT",
            funding_time=START + place * HOUR,
            rate=rate,
            received_at=START,
        )
        for exchange, rate in (("binance", 0.001), ("bybit", 0.1))
        for place in range(9 * 24)
    )
    backtest = asked()
    tasks.run_backtest(backtest.pk)
    backtest.refresh_from_db()
    paid = backtest.metrics["funding_paid"]
    assert paid != 0.0
    record = BacktestRecord.of(backtest)
    closed = -sum(trade.funding for trade in record.trades)
    assert record.held or closed == pytest.approx(paid)
    assert abs(paid) < 0.01 * float(backtest.initial_capital), "of its own exchange alone"


def test_running_it_again_changes_nothing(crash: Any) -> None:
    backtest = asked()
    execute_backtest(backtest_id=backtest.pk)
    first = Backtest.objects.values().get()
    execute_backtest(backtest_id=backtest.pk)
    assert Backtest.objects.values().get() == first


def test_two_backtests_of_the_same_agree(crash: Any) -> None:
    results = []
    for _ in range(2):
        backtest = asked()
        execute_backtest(backtest_id=backtest.pk)
        results.append(Backtest.objects.get(pk=backtest.pk).metrics)
    assert results[0] == results[1]


def test_what_is_leased_is_left_alone_and_what_is_abandoned_retaken(crash: Any) -> None:
    backtest = asked()
    held = timezone.now() + timedelta(seconds=20)
    Backtest.objects.update(state=BacktestState.RUNNING, leased_until=held, attempt=1, owner="x")
    execute_backtest(backtest_id=backtest.pk)
    assert Backtest.objects.get().state == BacktestState.RUNNING
    assert expired_backtests() == []
    Backtest.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
    assert expired_backtests() == [backtest.pk]
    execute_backtest(backtest_id=backtest.pk)
    row = Backtest.objects.get()
    assert (row.state, row.attempt) == (BacktestState.DONE, 2)


def test_a_lost_message_is_offered_again_but_not_at_every_sweep(crash: Any) -> None:
    backtest = asked()
    assert expired_backtests() == [backtest.pk]
    assert expired_backtests() == []
    execute_backtest(backtest_id=backtest.pk)
    assert Backtest.objects.get().state == BacktestState.DONE


def test_a_cancelled_backtest_is_not_run(crash: Any) -> None:
    backtest = asked()
    assert cancel_backtest(backtest_id=backtest.pk)
    execute_backtest(backtest_id=backtest.pk)
    assert Backtest.objects.get().state == BacktestState.CANCELLED
    assert not cancel_backtest(backtest_id=backtest.pk)


def test_candles_that_went_are_a_failure_with_its_reason(crash: Any) -> None:
    backtest = asked()
    Ohlcv.objects.all().delete()
    execute_backtest(backtest_id=backtest.pk)
    backtest.refresh_from_db()
    assert backtest.state == BacktestState.FAILED
    assert "no candles of bitcoin" in backtest.error


EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"instruments": ["nosuchcoin"]}, "instruments", "unknown instrument nosuchcoin"),
        ({"instruments": []}, "instruments", "at least one"),
        ({"strategy_name": "nosuch"}, "strategy_name", "nosuch"),
        ({"strategy_name": "consensus"}, "strategy_name", "no strategy of timeframe 1h"),
        ({"timeframe": "7h"}, "timeframe", "unknown timeframe"),
        ({"timeframe": "1d"}, "timeframe", "runs on 1h, not on 1d"),
        ({"parameters": {"nosuch": 1}}, "parameters", "nosuch: unknown"),
        ({"parameters": {"vix_threshold": 1e9}}, "parameters", "outside"),
        ({"parameters": {"vix_threshold": 10**400}}, "parameters", "outside"),
        ({"end": START}, "start_date", "no two closed"),
        ({"start": END + 90 * HOUR, "end": END + 99 * HOUR}, "start_date", "no two closed"),
        ({"start": LATEST, "end": LATEST}, "start_date", "no two closed"),
        ({"end": HISTORY, "start": EARLIEST}, "start_date", "no 1h candles of bitcoin"),
        ({"end": HISTORY + HOUR, "start": EARLIEST}, "start_date", "no two stored"),
        ({"initial_capital": Decimal("1e30")}, "initial_capital", "64 bits"),
        ({"initial_capital": Decimal("1e-9")}, "initial_capital", "1e-8 units"),
        ({"initial_capital": Decimal("2e9")}, "initial_capital", "up to 1,000,000,000"),
        ({"initial_capital": Decimal(0)}, "initial_capital", "above 0"),
    ],
)
def test_wrong_requests_leave_no_row(
    crash: Any, fields: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(BacktestError, match=words) as caught:
        asked(**fields)
    assert caught.value.field == field
    assert not Backtest.objects.exists()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"nosuch": {}}, "takes no part"),
        ({"mean_reversion": 5}, "not a table of parameters"),
        ({"mean_reversion": {"nosuch": 1}}, "nosuch: unknown"),
    ],
)
def test_the_parameters_of_a_consensus_are_looked_at(
    crash: Any, parameters: dict[str, Any], words: str
) -> None:
    StrategyConfig.objects.create(
        name="mean_reversion",
        is_enabled=True,
        certificate_hash=code_hash(build_strategy("mean_reversion")),
    )
    with pytest.raises(BacktestError, match=words) as caught:
        asked(strategy_name="consensus", parameters=parameters)
    assert caught.value.field == "parameters"


def test_a_period_begins_with_the_first_stored_candle(crash: Any) -> None:
    backtest = asked(start=EARLIEST)
    assert (backtest.start_date, backtest.end_date) == (HISTORY, END)


def test_more_than_a_worker_can_hold_is_refused(crash: Any, monkeypatch: Any) -> None:
    bars = (END - START) // HOUR
    crash.listed("ethereum")
    monkeypatch.setattr(backtest_requests, "MAX_CANDLES", 2 * bars - 1)
    assert asked().pk
    with pytest.raises(BacktestError, match="shorten the period") as caught:
        asked(instruments=["bitcoin", "ethereum"])
    assert caught.value.field == "start_date"


def traded() -> tuple[int, int, Decimal]:
    """A new run's count of fills and of signals without a listing, and its final value."""
    backtest = asked()
    execute_backtest(backtest_id=backtest.pk)
    backtest.refresh_from_db()
    assert backtest.state == BacktestState.DONE, backtest.error
    unlisted = backtest.metrics["refusals"].get("no_listing", 0)
    return backtest.metrics["fill_count"], unlisted, backtest.final_value


# The one position of the crash opens later in the period.
CHANGE = START + 24 * HOUR


@pytest.mark.parametrize(
    ("listing", "fills", "unlisted"),
    [
        ({"valid_from": CHANGE}, 2, 0),
        ({"valid_from": END}, 0, 1),
        ({"valid_to": CHANGE}, 0, 1),
    ],
)
def test_an_instrument_is_traded_while_it_is_listed(
    crash: Any, listing: dict[str, Any], fills: int, unlisted: int
) -> None:
    Listing.objects.update(**listing)
    assert traded()[:2] == (fills, unlisted)


def test_each_moment_is_traded_on_its_own_grid(crash: Any) -> None:
    first = Listing.objects.get()
    on_first = traded()
    coarse = {"tick_size": "0.5", "quantity_step": "1", "symbol": "NEWUSDT"}
    Listing.objects.create(
        instrument=first.instrument, exchange="binance", valid_from=CHANGE, **coarse
    )
    Listing.objects.filter(pk=first.pk).update(valid_to=CHANGE)
    on_both = traded()
    first.delete()
    Listing.objects.update(valid_from=None)
    assert on_first != on_both == traded()


def test_an_open_bar_is_cut_off(crash: Any) -> None:
    backtest = asked(end=END + 500 * HOUR)
    assert backtest.end_date == END + HOUR
    with pytest.raises(BacktestError):
        asked(start=END, end=END + HOUR)


COMMAND = ["--instruments", "bitcoin", "--start", "2021-05-01", "--end", "2021-05-10"]


def test_the_command_prints_what_it_stored(crash: Any, capsys: Any) -> None:
    output = StringIO()
    call_command("backtest", "--strategy", "mean_reversion", *COMMAND, "--json", stdout=output)
    answer = json.loads(output.getvalue())
    row = Backtest.objects.get()
    assert answer["id"] == row.pk
    assert Decimal(answer["final_value"]) == row.final_value
    call_command("backtest", "--strategy", "mean_reversion", *COMMAND)
    printed = capsys.readouterr().out
    assert "sharpe_ratio" in printed
    assert "total_return" in printed


@pytest.mark.parametrize(
    "arguments",
    [
        ["--strategy", "nosuch", *COMMAND],
        ["--strategy", "mean_reversion", *COMMAND, "--instruments", "nosuchcoin"],
        ["--strategy", "consensus", *COMMAND],
        ["--strategy", "mean_reversion", *COMMAND, "--start", "2021-06-01"],
        ["--strategy", "mean_reversion", *COMMAND, "--capital", "1e30"],
        ["--strategy", "mean_reversion", *COMMAND, "--start", "9999-12-31", "--end", "9999-12-31"],
    ],
)
def test_the_command_refuses_in_one_line(crash: Any, arguments: list[str]) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("backtest", *arguments)
    assert caught.value.returncode == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("hours", [9 * 24, 53])
def test_a_run_has_the_same_report_as_an_account(
    crash: Any, api_client: APIClient, client: Client, hours: int
) -> None:
    """The shorter run ends while it holds bitcoin."""
    backtest = asked(end=START + hours * HOUR)
    address = f"/api/v1/backtests/{backtest.pk}/report/"
    assert api_client.get(address).status_code == 401
    api_client.force_authenticate(make_user())
    early = api_client.get(address)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "not_done")
    execute_backtest(backtest_id=backtest.pk)
    backtest.refresh_from_db()
    report = api_client.get(address).json()
    assert set(report) == {"execution_summary", "performance_metrics", "trades"}
    summary, metrics = report["execution_summary"], report["performance_metrics"]
    assert Decimal(summary["final_equity"]) == backtest.final_value
    assert metrics["sharpe_ratio"] == backtest.sharpe_ratio
    assert len(report["trades"]) == backtest.trade_count == (hours > 53)
    assert len(summary["open_positions"]) == (hours == 53)
    worth = sum(Decimal(row["net"]) for row in report["trades"]) - Decimal(metrics["fees_paid"])
    worth += sum(Decimal(row["fees"]) for row in report["trades"])
    worth += sum(Decimal(row["unrealised_pnl"]) for row in summary["open_positions"])
    assert abs(backtest.initial_capital + worth - backtest.final_value) < Decimal("1e-7")
    page = api_client.get(address, {"format": "html"})
    assert "sandbox allow-scripts" in page["Content-Security-Policy"]
    assert b'data-chart="equity"' in page.content
    assert (b'data-chart="traded-0"' in page.content) == (hours > 53)
    client.force_login(make_user("root", is_staff=True, is_superuser=True))
    form = client.get(f"/admin/trading/backtest/{backtest.pk}/change/").content.decode()
    (button,) = set(re.findall(r'href="([^"]*/report[^"]*)"', form))
    assert b"data-chart" in client.get(button).content
