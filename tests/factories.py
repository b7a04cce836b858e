"""Rows that tests of several apps need, each made with the least that the tables accept."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import Group, User

from alerts.models import Alert
from collectors.models import Instrument
from risk.models import RiskDecision, RiskProfile
from signals.models import BarRun, Direction, RunState, Signal
from trading.models import Account, Fill, Order, OrderLeg, OrderStatus, Side

BAR = datetime(2021, 5, 13, tzinfo=UTC)


def make_user(username: str = "ada", *, role: str | None = "viewer", **fields: Any) -> User:
    """A user with a role (None: without any), and without a password: hashing one takes long."""
    user = User.objects.create_user(username, **fields)
    if role is not None:
        user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


def make_instrument(coin_id: str = "bitcoin", **fields: Any) -> Instrument:
    """The instrument of that name, made once."""
    defaults = {"symbol": coin_id[:3].upper(), "name": coin_id, "sector": "test"} | fields
    return Instrument.objects.get_or_create(coin_id=coin_id, defaults=defaults)[0]


def make_signal(*, bar: datetime = BAR, coin_id: str = "bitcoin", **fields: Any) -> Signal:
    """A long consensus of hourly bars; `bar` is the open time of the bar that it speaks of."""
    close = bar + timedelta(hours=1)
    run, _ = BarRun.objects.get_or_create(
        timeframe="1h",
        bar_open_time=bar,
        defaults={"state": RunState.DONE, "started_at": close, "finished_at": close},
    )
    values: dict[str, Any] = {
        "strategy": "consensus",
        "instrument": make_instrument(coin_id),
        "timeframe": "1h",
        "bar_open_time": bar,
        "at": close,
        "direction": Direction.LONG,
        "confidence": 0.75,
        "price": 50_000.0,
        "stop_loss": 49_000.0,
        "take_profit": 52_000.0,
        "position_size": 0.02,
        "expires_at": close + timedelta(hours=1),
        "run": run,
        "created_at": close,
    }
    return Signal.objects.create(**values | fields)


def make_alert(key: str, *, at: datetime = BAR, **fields: Any) -> Alert:
    """An operations alert about nothing, without deliveries."""
    values: dict[str, Any] = {
        "kind": "operations",
        "key": key,
        "asset": "bitcoin",
        "title": key,
        "payload": {"asset": "bitcoin"},
        "at": at,
        "created_at": at,
    }
    return Alert.objects.create(**values | fields)


def make_refusal(reason: str, *, at: datetime = BAR, coin_id: str = "bitcoin") -> RiskDecision:
    """A refused decision of the profile `paper`."""
    profile, _ = RiskProfile.objects.get_or_create(name="paper")
    return RiskDecision.objects.create(
        profile=profile,
        instrument=make_instrument(coin_id),
        direction=Direction.LONG,
        is_approved=False,
        rejection_reason=reason,
        risk_level="low",
        position_size=0.0,
        inputs={},
        outputs={},
        config_snapshot={},
        at=at,
        processing_time_ms=0.0,
    )


def make_fill(*, signal: Signal | None = None, at: datetime = BAR, **fields: Any) -> Fill:
    """The account `paper` buys 0.5 for a signal (None: a new one) at 50 000.10."""
    signal = signal or make_signal()
    profile, _ = RiskProfile.objects.get_or_create(name="paper")
    money = dict.fromkeys(
        ("initial_capital", "cash", "high_water_mark", "day_start_equity"), Decimal(10_000)
    )
    account, _ = Account.objects.get_or_create(
        name="paper", defaults={"profile": profile, "day": at.date(), "created_at": at, **money}
    )
    order = Order.objects.create(
        account=account,
        instrument=signal.instrument,
        exchange="binance",
        symbol="BTCUSDT",
        signal=signal,
        leg=OrderLeg.OPEN,
        side=Side.BUY,
        quantity_steps=500,
        tick_size="0.10",
        quantity_step="0.001",
        status=OrderStatus.FILLED,
        at=at,
    )
    values: dict[str, Any] = {
        "order": order,
        "account": account,
        "price_ticks": 500_001,
        "quantity_steps": 500,
        "fee": Decimal("10.00002"),
        "realised_pnl": Decimal(0),
        "slippage": Decimal(0),
        "slippage_bps": 1.5,
        "quote": {},
        "bar_open_time": signal.bar_open_time,
        "at": at,
        "recorded_at": at,
    }
    return Fill.objects.create(**values | fields)
