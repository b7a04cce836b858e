"""Adding to a position: once for each signal, within the limits of the whole, under one stop."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from risk.models import RiskDecision
from trading.models import Account, Fill, Order, OrderLeg, OrderStatus, Position, Trade
from trading.services import advance_account, close_position, reconcile, update_account

START = datetime.fromisoformat("2021-05-13T00:00:00+00:00")
HOUR = timedelta(hours=1)
pytestmark = pytest.mark.django_db


def say(world: Any, account: Account, hour: int, **fields: Any) -> None:
    """A long signal of the bar that opened `hour` hours after START, worked off at its close."""
    bar = START + hour * HOUR
    world.candle("bitcoin", bar, (100.0, 101.0, 99.0, 100.0))
    world.signal("bitcoin", 1, bar, **fields)
    world.run(bar)
    world.at(bar + HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    advance_account(account_id=account.pk)


def protection() -> dict[str, Order]:
    working = Order.objects.filter(status=OrderStatus.WORKING)
    return {order.leg: order for order in working}


@pytest.fixture
def adding(world: Any, account: Account) -> Account:
    """An account that adds, after its first entry with a stop at 97 and a target at 110."""
    update_account(account_id=account.pk, is_pyramiding=True)
    say(world, account, 0, stop_loss=97.0, take_profit=110.0)
    return account


def test_a_second_signal_adds_and_the_nearer_stop_and_newer_target_hold_for_all(
    world: Any, adding: Account
) -> None:
    first = Position.objects.get().quantity_steps
    say(world, adding, 1, stop_loss=98.0, take_profit=105.0)
    position = Position.objects.get()
    assert position.quantity_steps > 1.9 * first
    assert (position.stop_loss, position.take_profit) == (98.0, 105.0)
    stop, target = (protection()[leg] for leg in (OrderLeg.STOP_LOSS, OrderLeg.TAKE_PROFIT))
    assert (stop.trigger_ticks, target.limit_ticks) == (980, 1050)
    assert stop.quantity_steps == target.quantity_steps == position.quantity_steps
    assert stop.oco == target.oco
    advance_account(account_id=adding.pk)
    assert Fill.objects.count() == 2
    close_position(account_id=adding.pk, coin_id="bitcoin")
    assert Trade.objects.get().quantity == f"{position.quantity_steps / 1000:.3f}"
    assert not reconcile(account_id=adding.pk).mismatches


def test_a_wider_stop_never_loosens_what_is_held(world: Any, adding: Account) -> None:
    say(world, adding, 1, stop_loss=96.0, take_profit=104.0)
    position = Position.objects.get()
    assert (position.stop_loss, position.take_profit) == (97.0, 104.0)
    assert protection()[OrderLeg.STOP_LOSS].quantity_steps == position.quantity_steps


def test_the_limits_hold_for_the_whole(world: Any, adding: Account) -> None:
    hour = 1
    while RiskDecision.objects.filter(is_approved=False).count() == 0:
        say(world, adding, hour, stop_loss=97.0, take_profit=110.0)
        hour += 1
        assert hour < 30
    refused = RiskDecision.objects.get(is_approved=False)
    assert refused.rejection_reason == "max_single_asset"
    held = Position.objects.get().quantity_steps
    assert 0.13 * 10_000 < held * 0.1 <= 0.15 * 10_000


def test_without_it_the_same_direction_does_nothing(world: Any, adding: Account) -> None:
    update_account(account_id=adding.pk, is_pyramiding=False)
    say(world, adding, 1, stop_loss=98.0)
    assert (Fill.objects.count(), Position.objects.get().stop_loss) == (1, 97.0)
