"""Markets that end or rest while something is ordered or held there, and grids that change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from alerts.selectors import due_drafts
from collectors.models import Listing
from risk.models import RiskDecision
from tests.trading.waiting import enter, place, sweep
from trading.models import Account, Fill, Order, Position, Trade
from trading.services import (
    HandOrder,
    Terms,
    advance_account,
    close_position,
    place_hand_order,
    reconcile,
    settle_delisted,
    work_account,
)
from trading.services.delisting import GRACE

START = datetime(2021, 5, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
pytestmark = pytest.mark.django_db


def end_market(world: Any, how: str) -> datetime:
    """Bitcoin is not traded any more, and that has been seen; when."""
    moment = START + 2 * HOUR
    fields = {"valid_to": moment} if how == "ended" else {"is_trading": False}
    Listing.objects.filter(instrument__coin_id="bitcoin").update(**fields)
    world.at(moment + SECOND)
    assert settle_delisted() == 0
    return moment + SECOND


@pytest.mark.parametrize("how", ["ended", "rests"])
def test_what_is_held_is_settled_at_the_last_price_after_the_grace(
    world: Any, account: Account, how: str
) -> None:
    enter(world, account)
    place(world, account, "open", 1, 100, kind="limit", limit_ticks=900)
    world.candle("bitcoin", START + HOUR, (100.0, 101.0, 96.0, 97.0))
    since = end_market(world, how)
    assert Order.objects.get(kind="limit", leg="open").status == "cancelled"
    assert Position.objects.get().off_market_since is not None
    [draft] = [draft for draft in due_drafts() if draft.kind == "operations"]
    assert (draft.asset, draft.payload["alert_type"]) == ("bitcoin", "off_market")
    world.at(since + GRACE - SECOND)
    assert settle_delisted() == 0
    assert Order.objects.filter(status="working").count() == 2
    world.at(since + GRACE + timedelta(seconds=10))
    assert (settle_delisted(), settle_delisted()) == (1, 0)
    trade, fill = Trade.objects.get(), Fill.objects.latest("id")
    assert (trade.exit_reason, trade.exit_price) == ("delisted", 97.0)
    assert fill.quote["settled_at"]["closed_at"] == (START + 2 * HOUR).isoformat()
    assert not Order.objects.filter(status="working").exists()
    assert "not traded" in Order.objects.get(leg="stop_loss").reason
    assert any(draft.key == f"delisted:{trade.pk}" for draft in due_drafts())
    assert reconcile(account_id=account.pk).mismatches == ()


def test_a_market_that_goes_on_takes_what_is_held_along(world: Any, account: Account) -> None:
    enter(world, account)
    since = end_market(world, "rests")
    Listing.objects.update(is_trading=True)
    settle_delisted()
    assert Position.objects.get().off_market_since is None
    Listing.objects.update(is_trading=False)
    settle_delisted()
    # The list may be wrong: what is quoted is traded.
    world.at(since + 2 * GRACE)
    world.quote("bitcoin", 100.0, 100.1)
    assert settle_delisted() == 0
    assert Position.objects.get().quantity_steps == 1500
    # What is held next is held where it is traded.
    assert close_position(account_id=account.pk, coin_id="bitcoin") is not None
    assert Position.objects.get().off_market_since is None


def test_nothing_opens_where_nothing_is_traded(world: Any, account: Account) -> None:
    world.candle("bitcoin", START, (100.0, 100.5, 99.5, 100.0))
    world.signal("bitcoin", 1, START)
    world.run(START)
    Listing.objects.update(is_trading=False)
    world.at(START + HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    advance_account(account_id=account.pk)
    assert RiskDecision.objects.get().rejection_reason == "not_trading"
    outcome = place_hand_order(
        account_id=account.pk, asked=HandOrder(coin_id="bitcoin", side=1, quantity=Decimal(1))
    )
    assert outcome.refusal is not None
    assert outcome.refusal.code == "not_trading"
    assert RiskDecision.objects.filter(rejection_reason="not_trading").count() == 2
    assert not Order.objects.exists()


def test_what_is_held_can_be_left_whatever_becomes_of_its_grid(
    world: Any, account: Account
) -> None:
    enter(world, account)
    Listing.objects.update(tick_size="0.5", quantity_step="1")
    adding = place(world, account, "open", 1, 1, kind="limit", limit_ticks=196)
    assert sweep(world, account, START + 32 * timedelta(minutes=1), 97.0, 97.1) == 0
    adding.refresh_from_db()
    assert (adding.status, "grid" in adding.reason) == ("cancelled", True)
    world.at(START + 33 * timedelta(minutes=1))
    world.quote("bitcoin", 97.3, 97.4)
    part = HandOrder(
        coin_id="bitcoin", side=-1, quantity=Decimal("0.7"), terms=(Terms(),), reduce_only=True
    )
    assert place_hand_order(account_id=account.pk, asked=part).refusal is None
    world.at(START + 34 * timedelta(minutes=1))
    world.quote("bitcoin", 97.3, 97.4)
    assert close_position(account_id=account.pk, coin_id="bitcoin") is not None
    assert Position.objects.get().quantity_steps == 0
    assert work_account(account_id=account.pk) == 0
    assert reconcile(account_id=account.pk).mismatches == ()
