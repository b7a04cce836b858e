"""Rows that tests of several apps need, each made with the least that the tables accept."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.models import Group, User

from alerts.models import Alert
from collectors.models import Instrument
from risk.models import RiskDecision, RiskProfile
from signals.models import BarRun, Direction, RunState, Signal

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
