"""Assessments as rows: what they saw, what fails inside them, and the answer's shape."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from collectors import clock
from collectors.marketdata import candle_key
from collectors.models import FundingRate, Instrument, Ohlcv, Series
from risk.assessment import Request, Verdict, decide
from risk.declarations import BY_NAME, DECLARATIONS, limits_from
from risk.limits import Limits
from risk.models import RiskDecision, RiskLimit
from risk.portfolio import Portfolio, Record, Standing
from risk.selectors import heat_of, surroundings_at
from risk.services import assess, assessments, change_limit
from tests.factories import make_fill, make_signal
from trading.models import Account, FundingPayment, Position, Trade
from trading.selectors import account_portfolio
from trading.services.assessment import AssessmentRequest, preview_assessment
from trading.strategy_records import strategy_record

pytestmark = pytest.mark.django_db
START = datetime.fromisoformat("2021-05-13T00:00:00+00:00")
HOUR = timedelta(hours=1)
REQUEST = Request(
    direction=1,
    confidence=0.8,
    price=100.0,
    stop_loss=math.nan,
    take_profit=math.nan,
    proposed_size=math.nan,
    step_notional=0.1,
    min_notional=5.0,
)


def judged(
    account: Account,
    instrument: Instrument,
    *,
    portfolio: Callable[[], Portfolio] | None = None,
    strategy: str = "consensus",
) -> tuple[RiskDecision, Verdict]:
    return assess(
        profile=account.profile,
        portfolio=portfolio or partial(account_portfolio, account=account, bar=None),
        instrument=instrument,
        request=REQUEST,
        at=clock.now(),
        closed_at=START,
        strategy=strategy,
    )


def test_a_decision_can_be_made_again_from_its_row(world: Any, account: Account) -> None:
    """From the stored scalars and the configuration alone, to the last bit."""
    decision, verdict = judged(account, world.listed("bitcoin"))
    row = RiskDecision.objects.get(pk=decision.pk)

    def stored(kind: Any) -> Any:
        values = {name: row.inputs[name] for name in kind._fields}
        return kind(**{name: float(v) if isinstance(v, str) else v for name, v in values.items()})

    limits = Limits(**row.config_snapshot)
    again = decide(stored(Request), stored(Standing), limits)
    assert repr(again) == repr(verdict)
    assert row.inputs["volatility_24h"] == 0.0
    assert row.inputs["facts_at"] == START.isoformat()
    assert set(row.outputs["sizes"]) == set(verdict.sizes._fields)


def test_an_error_inside_refuses_and_changes_nothing_else(world: Any, account: Account) -> None:
    """Even one that spoils the transaction: what follows can still be written."""
    instrument = world.listed("bitcoin")

    def broken() -> Portfolio:
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column FROM trading_account")
        raise AssertionError("not reached")

    with transaction.atomic():
        decision, verdict = judged(account, instrument, portfolio=broken)
        Account.objects.filter(pk=account.pk).update(exchange="bybit")
    assert not verdict.is_approved
    assert (verdict.size, verdict.steps) == (0.0, 0)
    row = RiskDecision.objects.get()
    assert (row.pk, row.is_approved, row.rejection_reason) == (
        decision.pk,
        False,
        "assessment_error",
    )
    assert "no_such_column" in row.warnings[0]
    assert Account.objects.get().exchange == "bybit"


def test_what_takes_too_long_refuses(
    world: Any, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assessments, "TIME_LIMIT_S", 0.05)
    portfolio = account_portfolio(account=account, bar=None)

    def slow() -> Portfolio:
        time.sleep(0.06)
        return portfolio

    _, verdict = judged(account, world.listed("bitcoin"), portfolio=slow)
    assert verdict.reason == "assessment_timeout"
    row = RiskDecision.objects.get()
    assert (row.is_approved, row.rejection_reason, row.position_size) == (
        False,
        "assessment_timeout",
        0.0,
    )


def test_a_changed_limit_holds_at_once(world: Any, account: Account) -> None:
    instrument = world.listed("bitcoin")
    assert judged(account, instrument)[1].is_approved
    change_limit(profile_id=account.profile_id, name="min_confidence", value=0.9, by="ada")
    decision, verdict = judged(account, instrument)
    assert verdict.reason == "confidence_floor"
    assert decision.config_snapshot["min_confidence"] == 0.9


@pytest.mark.parametrize("name", ["max_sector", "max_open_positions"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 50_000.0, -1.0])
def test_a_limit_that_binds_nobody_refuses_everything(
    world: Any, account: Account, name: str, value: float
) -> None:
    RiskLimit.objects.filter(name=name).update(value=value)
    decision, verdict = judged(account, world.listed("bitcoin"))
    assert verdict.reason == "assessment_error"
    assert name in decision.warnings[0]


def test_a_strategy_is_granted_its_own_stop(world: Any, account: Account) -> None:
    instrument = world.listed("bitcoin")
    change_limit(profile_id=account.profile_id, name="max_stop_distance", value=0.01)
    change_limit(
        profile_id=account.profile_id, name="max_stop_distance", value=0.05, strategy="momentum"
    )
    assert judged(account, instrument)[1].reason == "max_stop_distance"
    assert judged(account, instrument, strategy="momentum")[1].is_approved


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"volume": 300.0}, "min_liquidity"),
        ({"volume": None}, "liquidity_unknown"),
    ],
)
def test_what_nobody_trades_is_refused(
    world: Any, account: Account, changes: dict[str, Any], reason: str
) -> None:
    instrument = world.listed("bitcoin")
    Ohlcv.objects.update(**changes)
    assert judged(account, instrument)[1].reason == reason


def test_what_is_unknown_of_the_price_is_refused(world: Any, account: Account) -> None:
    instrument = world.listed("bitcoin")
    Ohlcv.objects.all().delete()
    decision, verdict = judged(account, instrument)
    assert verdict.reason == "volatility_unknown"
    assert decision.warnings == ["max_volatility: unknown", "min_liquidity: unknown"]


def wild(world: Any, instrument: Instrument, seed: int) -> None:
    """32 days of random hours up to START."""
    steps = np.random.default_rng(seed).normal(0.0, 0.01, 32 * 24)
    world.before(instrument, (100.0 * np.exp(np.cumsum(steps))).tolist())


def test_two_of_one_kind_are_one_too_many(world: Any, account: Account) -> None:
    bitcoin, ethereum = world.listed("bitcoin"), world.listed("ethereum")
    wild(world, bitcoin, 1)
    wild(world, ethereum, 1)
    held = Portfolio(
        equity=10_000.0,
        cash=10_000.0,
        open_risk=0.0,
        high_water_mark=10_000.0,
        day_start_equity=10_000.0,
        exposures={"ethereum": 500.0},
    )
    _, verdict = judged(account, bitcoin, portfolio=lambda: held)
    assert verdict.reason == "max_correlation"
    assert verdict.usage.correlation == pytest.approx(1.0)
    wild(world, ethereum, 2)
    assert judged(account, bitcoin, portfolio=lambda: held)[1].is_approved
    heat = heat_of(portfolio=held, at=START)
    assert heat.by_direction["gross"] == pytest.approx(0.05)
    assert (heat.tail.days, heat.tail.historical_var is not None) == (31, True)


def test_facts_are_read_once_for_each_state_of_a_series(world: Any, account: Account) -> None:
    instrument = world.listed("bitcoin")
    series = Series.objects.create(key=candle_key("bitcoin", "1h"), revision=1)

    def read() -> tuple[float, int]:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            facts = surroundings_at(coin_ids=["bitcoin"], at=START).of("bitcoin")
        return facts.volatility_24h, len(queries)

    first, cold = read()
    assert read() == (first, 1) != (first, cold)
    Ohlcv.objects.filter(instrument=instrument, open_time=START - HOUR).update(
        close=101.0, high=101.0
    )
    Series.objects.filter(pk=series.pk).update(revision=2)
    changed, queries = read()
    assert changed > first == 0.0
    assert queries == cold


def test_nothing_that_closes_later_is_read(world: Any, account: Account) -> None:
    world.listed("bitcoin")
    before = surroundings_at(coin_ids=["bitcoin"], at=START).of("bitcoin")
    world.candle("bitcoin", START, (100.0, 150.0, 100.0, 150.0))
    again = surroundings_at(coin_ids=["bitcoin"], at=START).of("bitcoin")
    assert repr(again) == repr(before)
    later = surroundings_at(coin_ids=["bitcoin"], at=START + HOUR).of("bitcoin")
    assert later.volatility_24h > 0.2


def pay(account: Account, instrument: Instrument) -> None:
    """A funding payment, of whatever amount."""
    settlement = FundingRate.objects.create(
        instrument=instrument, exchange="binance", symbol="BITCOINUSDT", funding_time=START,
        rate=0.0001, interval_hours=8, received_at=START,
    )  # fmt: skip
    position = Position.objects.create(
        account=account, instrument=instrument, tick_size="0.1", quantity_step="0.001"
    )
    FundingPayment.objects.create(
        account=account, position=position, settlement=settlement, quantity_steps=1,
        mark_price=1.0, rate=0.0001, amount=Decimal(1), at=START, recorded_at=START,
    )  # fmt: skip


def test_the_record_of_a_strategy_is_net_of_all_costs(
    world: Any, account: Account, django_capture_on_commit_callbacks: Any
) -> None:
    def closed(pnl: str, fees: str, funding: str = "0", strategy: str = "momentum") -> None:
        Trade.objects.create(
            account=account,
            instrument=world.listed("bitcoin"),
            strategy=strategy,
            direction=1,
            quantity="1",
            entry_price=1.0,
            exit_price=1.0,
            pnl=Decimal(pnl),
            fees=Decimal(fees),
            funding=Decimal(funding),
            entered_at=START,
            exited_at=START,
            exit_reason="signal",
            exit_fill=make_fill(signal=make_signal(bar=START + Trade.objects.count() * HOUR)),
        )

    assert strategy_record(account_id=account.pk, strategy="momentum") == Record(0, 0, 0.0, 0.0)
    closed("10.00000001", "1")
    closed("3", "1", "-2.5")
    closed("1", "1")
    closed("-4", "1", "0.5")
    closed("100", "1", strategy="ether")
    record = strategy_record(account_id=account.pk, strategy="momentum")
    assert record == Record(4, 1, 9.00000001, 5.0)
    with django_capture_on_commit_callbacks(execute=True):
        assert strategy_record(account_id=account.pk, strategy="momentum") == record
    # From here on only what is new is added up, and what is rolled back never was.
    with pytest.raises(RuntimeError), transaction.atomic():
        closed("1000", "1")
        assert strategy_record(account_id=account.pk, strategy="momentum").wins == 2
        raise RuntimeError
    closed("6", "1")
    later = Record(5, 2, 14.00000001, 5.0)
    with django_capture_on_commit_callbacks(execute=True):
        assert strategy_record(account_id=account.pk, strategy="momentum") == later
    # A payment that is told of later changes an old trade.
    Trade.objects.filter(pnl=Decimal(-4)).update(funding=Decimal("9.5"))
    pay(account, world.listed("bitcoin"))
    record = strategy_record(account_id=account.pk, strategy="momentum")
    assert record == Record(5, 3, 18.50000001, 0.5)
    portfolio = account_portfolio(account=account, bar=None, strategy="momentum")
    assert portfolio.record == record


def test_the_answer_names_every_limit(world: Any, account: Account) -> None:
    world.listed("bitcoin")
    asked = AssessmentRequest(asset="bitcoin", signal_type="LONG", price=100.0, confidence=0.8)
    answer = preview_assessment(account=account, asked=asked)
    assessment, enforcement = answer["risk_assessment"], answer["risk_limits_enforcement"]
    assert assessment["position_size_method"] == "blended"
    assert assessment["position_sizes"]["fixed_percent"] == pytest.approx(160.0)
    assert assessment["position_sizes"]["kelly"] is None
    assert assessment["market_volatility"] == 0.0
    assert assessment["correlation_risk"] == 0.0
    assert enforcement["current_drawdown_vs_limit"]["limit_pct"] == pytest.approx(20.0)
    assert enforcement["position_size_vs_limit"]["utilization_pct"] == pytest.approx(16.0)
    assert enforcement["liquidity_vs_limit"]["limit"] == 1e6
    compared = [key for key in enforcement if key.endswith("_vs_limit")]
    assert len(compared) == sum(1 for each in DECLARATIONS if each.usage)
    assert answer["risk_config_snapshot"] == limits_from({})._asdict()
    assert BY_NAME.keys() < answer["risk_config_snapshot"].keys()
