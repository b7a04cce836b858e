"""The books in the admin: every page opens, at a cost that rows do not raise; people order."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from risk.selectors import limits_of
from tests.factories import make_user
from trading.models import (
    Account,
    AttemptOutcome,
    ExecutionAttempt,
    Fill,
    LedgerMismatch,
    LedgerTransaction,
    Order,
    OrderKind,
    OrderLeg,
    OrderStatus,
    Position,
    Side,
)
from trading.services import set_desk_state, set_trading_state

pytestmark = pytest.mark.django_db

START = datetime.fromisoformat("2021-05-13T00:00:00+00:00")
STAYS = {"is_active": "on", "latency_ms": "100"}
TABLES = (
    "account", "order", "fill", "position", "trade", "ledgertransaction", "ledgerentry",
    "ledgermismatch", "fundingpayment", "equitypoint", "executionattempt", "pendingsignal",
    "outsideturn", "backtest", "refusedrequest",
)  # fmt: skip


@pytest.fixture
def browser(client: Any) -> Any:
    """A browser in which an administrator is logged in."""
    client.force_login(make_user("root", role=None, is_staff=True, is_superuser=True))
    return client


def resting(account: Account, like: Order) -> Order:
    """A working entry far from the market."""
    return Order.objects.create(
        account=account,
        instrument=like.instrument,
        exchange=like.exchange,
        symbol=like.symbol,
        tick_size=like.tick_size,
        quantity_step=like.quantity_step,
        kind=OrderKind.LIMIT,
        leg=OrderLeg.OPEN,
        side=Side.BUY,
        quantity_steps=100,
        limit_ticks=500,
        at=like.at,
    )


def text_of(answer: Any) -> str:
    assert answer.status_code == 200
    return answer.content.decode()


def test_every_table_and_every_row_has_its_page(browser: Any, holding: Account) -> None:
    ExecutionAttempt.objects.create(
        account=holding, outcome=AttemptOutcome.FAILED, error="a fault", duration_ms=1.0, at=START
    )
    LedgerMismatch.objects.create(
        account=holding, fingerprint="f", found=["cash: 1, but what is booked makes 2"], at=START,
        first_seen_at=START, last_seen_at=START,
    )  # fmt: skip
    for name in TABLES:
        text_of(browser.get(reverse(f"admin:trading_{name}_changelist")))
    for name in ("riskprofile", "riskdecision"):
        text_of(browser.get(reverse(f"admin:risk_{name}_changelist")))
    for model in (Account, Order, Fill, Position, LedgerTransaction, LedgerMismatch):
        row = model.objects.all()[0]
        text_of(
            browser.get(reverse(f"admin:trading_{model._meta.model_name}_change", args=[row.pk]))
        )


def test_the_page_of_an_account_says_what_it_is_worth(browser: Any, holding: Account) -> None:
    page = text_of(browser.get(reverse("admin:trading_account_change", args=[holding.pk])))
    for told in ("9999.62", "stop_loss", "take_profit", "98.2", "1.497"):
        assert told in page, told
    positions = text_of(browser.get(reverse("admin:trading_position_changelist") + "?held=yes"))
    assert "1.497" in positions
    orders = text_of(browser.get(reverse("admin:trading_order_changelist") + "?status=working"))
    assert "trigger 98.2" in orders


def test_a_transaction_shows_both_sides_and_that_they_balance(
    browser: Any, holding: Account
) -> None:
    row = LedgerTransaction.objects.get(kind="fill")
    page = text_of(browser.get(reverse("admin:trading_ledgertransaction_change", args=[row.pk])))
    assert "sums to zero" in page
    for entry in row.entries.all():
        assert f"{entry.amount:f}" in page
    entries = text_of(browser.get(reverse("admin:trading_ledgerentry_changelist")))
    assert "all entries sum to zero" in entries


@pytest.mark.parametrize("name", ["order", "position", "fill", "ledgertransaction"])
def test_more_rows_cost_no_more_queries(
    browser: Any, holding: Account, world: Any, name: str
) -> None:
    address = reverse(f"admin:trading_{name}_changelist")

    def cost() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            text_of(browser.get(address))
        return len(queries)

    browser.get(address)
    before = cost()
    for number in range(4):
        instrument = world.listed(f"coin{number}")
        order = resting(holding, Order.objects.filter(leg=OrderLeg.OPEN)[0])
        Order.objects.filter(pk=order.pk).update(instrument=instrument)
        Position.objects.create(
            account=holding, instrument=instrument, tick_size="0.1", quantity_step="0.001",
            quantity_steps=5,
        )  # fmt: skip
    for number, fill in enumerate(list(Fill.objects.all()) * 4):
        fill.pk, fill.trigger = None, f"copy:{number}"
        fill.save(force_insert=True)
        LedgerTransaction.objects.create(
            account=holding, kind="fill", key=f"copy:{number}", fill=fill, at=START,
            recorded_at=START,
        )  # fmt: skip
    assert cost() == before


def test_only_who_may_change_orders_cancels_them(
    client: Any, browser: Any, holding: Account
) -> None:
    like = Order.objects.get(leg=OrderLeg.OPEN)
    first, second = resting(holding, like), resting(holding, like)
    body = {"action": "cancel", "_selected_action": [first.pk, like.pk]}
    assert browser.post(reverse("admin:trading_order_changelist"), body).status_code == 302
    first.refresh_from_db()
    like.refresh_from_db()
    assert (first.status, first.reason) == (OrderStatus.CANCELLED, "cancelled by root")
    assert like.status == OrderStatus.FILLED
    reader = make_user("reader", role=None, is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_order"))
    client.force_login(reader)
    client.post(
        reverse("admin:trading_order_changelist"),
        {"action": "cancel", "_selected_action": [second.pk]},
    )
    second.refresh_from_db()
    assert second.status == OrderStatus.WORKING


def test_only_a_trader_orders_by_the_form(client: Any, holding: Account) -> None:
    address = reverse("admin:trading_account_order_by_hand", args=[holding.pk])
    codes = ("view_account", "change_account", "view_order", "change_order")
    for role, status in (("operator", 403), ("trader", 200)):
        user = make_user(role, role=role, is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codes))
        client.force_login(user)
        assert client.get(address).status_code == status, role
        page = text_of(client.get(reverse("admin:trading_account_change", args=[holding.pk])))
        assert (address in page) is (status == 200)
        assert reverse("admin:trading_switch") in page  # from the menu
        orders = text_of(client.get(reverse("admin:trading_order_changelist")))
        assert ("Cancel the working orders" in orders) is (status == 200)


def test_a_person_orders_by_the_form(browser: Any, holding: Account) -> None:
    address = reverse("admin:trading_account_order_by_hand", args=[holding.pk])
    assert "Place the order" in text_of(browser.get(address))
    key = uuid4().hex
    asked = {"instrument": "bitcoin", "side": "sell", "kind": "limit", "key": key}
    asked["limit_price"] = "101.55"
    wrong = text_of(browser.post(address, {**asked, "reduce_only": "on"}))
    assert "101.5 and 101.6" in wrong
    large = {**asked, "side": "buy", "limit_price": "99", "quantity": "500"}
    assert "risk grants" in text_of(browser.post(address, large))
    done = browser.post(address, {**asked, "limit_price": "101.5", "reduce_only": "on"})
    assert done.status_code == 302
    order = Order.objects.get(kind=OrderKind.LIMIT, leg=OrderLeg.CLOSE)
    assert (order.placed_by, order.quantity_steps) == ("root", 1497)
    again = browser.post(address, {**asked, "limit_price": "101.5", "reduce_only": "on"})
    assert "placed already" in text_of(again)
    assert Order.objects.filter(kind=OrderKind.LIMIT, leg=OrderLeg.CLOSE).count() == 1


def test_the_admin_changes_what_is_followed_and_never_the_money(
    client: Any, holding: Account
) -> None:
    client.force_login(make_user("root", role=None, is_staff=True, is_superuser=True))
    page = reverse("admin:trading_account_change", args=[holding.pk])
    assert client.get(page).status_code == 200
    cash = Account.objects.get(pk=holding.pk).cash
    answer = client.post(page, {"subscriptions": ["mean_reversion"], **STAYS})
    assert answer.status_code == 302
    changed = Account.objects.get(pk=holding.pk)
    assert (changed.subscriptions, changed.cash) == (["mean_reversion"], cash)
    wrong = client.post(page, {"subscriptions": ["nope"], **STAYS})
    assert "nope is not one of the available choices" in wrong.content.decode()
    assert Account.objects.get(pk=holding.pk).subscriptions == ["mean_reversion"]
    assert client.post(page, {"subscriptions": [], **STAYS}).status_code == 302
    assert Account.objects.get(pk=holding.pk).subscriptions == []
    limits = reverse("admin:risk_riskprofile_change", args=[holding.profile_id])
    assert client.get(limits).status_code == 200


NEW = {
    "name": "second",
    "initial_capital": "500.25",
    "exchange": "bybit",
    "subscriptions": ["mean_reversion", "outside"],
    "max_position_size": "0.05",
    "max_portfolio_risk": "0.2",
}


def test_a_trader_opens_an_account_on_its_page(browser: Any, client: Any, account: Account) -> None:
    page = reverse("admin:trading_account_add")
    form = text_of(browser.get(page))
    for told in ("Initial capital", "Max position size", "mean_reversion"):
        assert told in form
    assert browser.post(page, NEW).status_code == 302
    opened = Account.objects.get(name="second")
    assert (opened.cash, opened.exchange) == (Decimal("500.25"), "bybit")
    assert opened.subscriptions == ["mean_reversion", "outside"]
    assert limits_of(profile=opened.profile).max_position_size == 0.05
    assert LedgerTransaction.objects.filter(account=opened, kind="deposit").count() == 1
    # Who opened it is kept.
    assert "root" in text_of(
        browser.get(reverse("admin:trading_account_history", args=[opened.pk]))
    )
    for wrong in (
        {"name": "second"}, {"name": "paper"}, {"name": "x", "initial_capital": "NaN"},
        {"name": "x", "initial_capital": "-1"}, {"name": "x", "initial_capital": "1e30"},
        {"name": "x", "max_position_size": "2"}, {"name": "x", "subscriptions": ["nosuch"]},
        {"name": "x", "exchange": "nosuch"},
    ):  # fmt: skip
        assert "errornote" in text_of(browser.post(page, {**NEW, **wrong}))
    assert set(Account.objects.values_list("name", flat=True)) == {"paper", "second"}
    reader = make_user("reader", role="operator", is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="add_account"))
    client.force_login(reader)
    assert client.post(page, {**NEW, "name": "third"}).status_code == 403


def test_the_list_of_accounts_says_what_rules(browser: Any, account: Account) -> None:
    table = reverse("admin:trading_account_changelist")
    assert "active" in text_of(browser.get(table))
    set_desk_state(state="halted", reason="maintenance", by="root")
    assert "halted, as all accounts" in text_of(browser.get(table))
    set_desk_state(state="active", reason="over", by="root")
    set_trading_state(account_id=account.pk, state="reducing", reason="a look", by="root")
    page = text_of(browser.get(table))
    assert "reducing" in page and "as all accounts" not in page
