"""An account that cannot carry what it holds any more loses all of it, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from trading.fields import to_units
from trading.models import Account, Book, Fill, Order, Position, Trade, TransactionKind
from trading.services import (
    advance_account,
    liquidate_if_due,
    locked_account,
    reconcile,
    work_account,
)
from trading.services.ledger import post_transaction

START = datetime(2021, 5, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
pytestmark = pytest.mark.django_db


@pytest.fixture
def held(world: Any, account: Account) -> Account:
    """Long in two coins without stops, with little more cash than the positions must keep."""
    for coin_id in ("bitcoin", "ethereum"):
        world.signal(coin_id, 1, START)
        world.quote(coin_id, 100.0, 100.1)
    world.run(START)
    world.at(START + HOUR)
    for coin_id in ("bitcoin", "ethereum"):
        world.quote(coin_id, 100.0, 100.1)
    advance_account(account_id=account.pk)
    assert Fill.objects.count() == 2
    Order.objects.filter(status="working").update(trigger_ticks=1, judged_from=None)
    Order.objects.filter(leg="take_profit").update(limit_ticks=10**7)
    # A bad year took the rest: ten units are left.
    change = Decimal(10) - Account.objects.get().cash
    withdraw(account, change)
    return account


def withdraw(account: Account, change: Decimal) -> None:
    """Move cash by a transaction of the ledger."""
    with locked_account(account.pk) as current:
        post_transaction(
            account=current,
            kind=TransactionKind.DEPOSIT,
            key="withdrawal",
            counter_amounts={Book.CAPITAL: -to_units(change)},
            at=START + HOUR,
        )


def fall_to(world: Any, bid: float, *, minute: int = 1) -> None:
    world.at(START + HOUR + minute * timedelta(minutes=1))
    world.quote("bitcoin", bid, bid + 0.1)
    world.quote("ethereum", 100.0, 100.1)


def test_equity_above_maintenance_is_left_alone(world: Any, held: Account) -> None:
    fall_to(world, 97.0)
    assert liquidate_if_due(account_id=held.pk) == []
    assert Position.objects.exclude(quantity_steps=0).count() == 2


def test_equity_at_maintenance_closes_everything_once(world: Any, held: Account) -> None:
    fall_to(world, 93.0)
    assert len(liquidate_if_due(account_id=held.pk)) == 2
    assert liquidate_if_due(account_id=held.pk) == []
    assert not Position.objects.exclude(quantity_steps=0).exists()
    assert set(Trade.objects.values_list("exit_reason", flat=True)) == {"liquidation"}
    assert not Order.objects.filter(status="working").exists()
    assert reconcile(account_id=held.pk).mismatches == ()


def test_what_has_no_quote_is_closed_by_the_sweep(world: Any, held: Account) -> None:
    fall_to(world, 93.0)
    world.redis.delete("orderbook:binance:ETHEREUMUSDT")
    for _ in range(2):
        liquidate_if_due(account_id=held.pk)
    waiting = Order.objects.get(leg="liquidation", status="working")
    assert waiting.symbol == "ETHEREUMUSDT"
    fall_to(world, 93.0, minute=2)
    assert work_account(account_id=held.pk) == 1
    assert not Position.objects.exclude(quantity_steps=0).exists()
    assert reconcile(account_id=held.pk).mismatches == ()


def test_marks_of_somebody_else_spare_the_look(world: Any, held: Account) -> None:
    fall_to(world, 93.0)
    fine = {"bitcoin": 1000, "ethereum": 1000}
    assert liquidate_if_due(account_id=held.pk, marks=fine) == []
    assert len(liquidate_if_due(account_id=held.pk, marks={**fine, "bitcoin": 930})) == 2
