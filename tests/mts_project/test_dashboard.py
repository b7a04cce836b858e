"""The first page shows the account, and only to those who may see it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from collectors import clock
from collectors.models import ProviderCallMinute
from collectors.seeds import seed_instruments
from mts_project.dashboard import draw_curve
from risk.models import RiskProfile
from trading.models import Account, EquityPoint

START = datetime(2024, 3, 1, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> Account:
    capital = Decimal(10_000)
    account = Account.objects.create(
        name="paper",
        profile=RiskProfile.objects.create(name="paper"),
        initial_capital=capital,
        cash=capital,
        high_water_mark=capital,
        day_start_equity=capital,
        day=START.date(),
        created_at=START,
    )
    for hour, equity in enumerate([10_000, 10_150, 9_900]):
        EquityPoint.objects.create(
            account=account,
            at=START + timedelta(hours=hour),
            equity=Decimal(equity),
            cash=capital,
            gross_exposure=Decimal(500),
        )
    return account


def test_the_operator_sees_equity_and_curve(account: Account, client: Client) -> None:
    client.force_login(get_user_model().objects.create_superuser("boss", password="x"))
    page = client.get("/admin/").content.decode()
    assert "9,900.00" in page
    assert "-1.00% since the start" in page
    assert 'aria-label="Equity from 9,880.00 to 10,170.00"' in page


def test_the_operator_sees_calls_beside_forecast_limit_and_naive_schedule(
    account: Account, client: Client
) -> None:
    seed_instruments()
    ProviderCallMinute.objects.create(
        provider="binance", endpoint="/x", minute=clock.now(), calls=7, weight=1200, errors=1
    )
    client.force_login(get_user_model().objects.create_superuser("boss", password="x"))
    page = " ".join(client.get("/admin/").content.decode().split())
    assert "Provider calls of this market day" in page
    assert "50.0% of 2400/min" in page
    assert "from two sources would cost 2880 calls a day; the forecast saves" in page
    assert "History that is fetched comes on top" in page


def test_a_login_without_permission_sees_no_account(account: Account, client: Client) -> None:
    client.force_login(get_user_model().objects.create_user("guest", password="x", is_staff=True))
    page = client.get("/admin/").content.decode()
    assert "Equity" not in page


def test_a_curve_needs_two_points() -> None:
    assert draw_curve([(START, Decimal(1))]) is None


def test_a_flat_curve_lies_in_the_middle() -> None:
    curve = draw_curve([(START, Decimal(100)), (START + timedelta(hours=1), Decimal(100))])
    assert curve is not None
    assert curve["line"] == "M0.0,110.0 L900.0,110.0"
