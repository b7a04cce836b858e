"""The page of the trading states: everybody who may look sees them, traders throw them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from risk.models import TradingState, TradingStateChange
from risk.selectors import read_desk
from tests.factories import make_user
from trading.models import Account

PAGE = "/admin/trading/account/switch/"
pytestmark = pytest.mark.django_db


def opened_by(client: Client, role: str) -> Client:
    """Logged in with a role, as somebody who may see accounts and what is recorded of them."""
    user = make_user(role, role=role, is_staff=True)
    seen = ("view_account", "view_executionattempt", "view_tradingstatechange")
    user.user_permissions.set(Permission.objects.filter(codename__in=seen))
    client.force_login(user)
    return client


def test_a_trader_throws_a_switch_and_sees_it(client: Client, account: Account) -> None:
    opened_by(client, "trader")
    wish = {"account": "paper", "state": "halted", "reason": "a <holiday>"}
    page = client.post(PAGE, wish, follow=True).content.decode()
    assert "paper: halted" in page
    assert "a &lt;holiday&gt;" in page
    account.profile.refresh_from_db()
    assert account.profile.trading_state == TradingState.HALTED
    client.post(PAGE, {"account": "", "state": "reducing", "reason": "storm"})
    assert read_desk().trading_state == TradingState.REDUCING
    assert list(TradingStateChange.objects.values_list("by", flat=True)) == ["trader", "trader"]
    assert client.get("/admin/risk/tradingstatechange/").status_code == 200
    assert client.get("/admin/trading/executionattempt/").status_code == 200


@pytest.mark.parametrize(
    "wish", [{"state": "paused", "reason": "x"}, {"state": "halted", "reason": " "}, {}]
)
def test_a_wrong_wish_changes_nothing(client: Client, account: Account, wish: Any) -> None:
    answer = opened_by(client, "trader").post(PAGE, {"account": "paper", **wish}, follow=True)
    assert answer.status_code == 200
    assert not TradingStateChange.objects.exists()


def test_an_unknown_account_is_not_found(client: Client, account: Account) -> None:
    wish = {"account": "nobody", "state": "halted", "reason": "x"}
    assert opened_by(client, "trader").post(PAGE, wish).status_code == 404


def test_others_look_only(client: Client, account: Account) -> None:
    opened_by(client, "operator")
    page = client.get(PAGE)
    assert page.status_code == 200
    assert "<form class=" not in page.content.decode().split("Newest changes")[0].split("Whose")[1]
    wish = {"account": "paper", "state": "halted", "reason": "x"}
    assert client.post(PAGE, wish).status_code == 403
    assert not TradingStateChange.objects.exists()
