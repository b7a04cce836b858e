"""The heat of an account: on its page in the admin, and as programs read it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.factories import make_user
from trading.heat import heat_json
from trading.models import Account
from trading.services import advance_account

PAGE = "/admin/trading/account/heat/"
START = datetime.fromisoformat("2021-05-13T00:00:00+00:00")
HOUR = timedelta(hours=1)
pytestmark = pytest.mark.django_db


@pytest.fixture
def holding(world: Any, account: Account) -> Account:
    """Long bitcoin and short ethereum, 150 each."""
    for coin_id, direction in (("bitcoin", 1), ("ethereum", -1)):
        world.candle(coin_id, START, (100.0, 100.5, 99.5, 100.0))
        world.signal(coin_id, direction, START)
    world.run(START)
    world.at(START + HOUR)
    for coin_id in ("bitcoin", "ethereum"):
        world.quote(coin_id, 100.0, 100.1)
    advance_account(account_id=account.pk)
    return account


@pytest.fixture
def page(client: Any) -> Any:
    client.force_login(make_user("root", role=None, is_superuser=True, is_staff=True))

    def read(**query: str) -> str:
        answer = client.get(PAGE, query)
        assert answer.status_code == 200
        return answer.content.decode()

    return read


def test_the_map_shows_what_is_held_and_what_it_may_lose(page: Any, holding: Account) -> None:
    text = page()
    source = text.split('<script id="chart-figure" type="application/json">')[1]
    (heatmap,) = json.loads(source.split("</script>")[0])["data"]
    assert {label.split()[0] for label in heatmap["x"]} == {"bitcoin", "ethereum"}
    # Their candles never moved, so what they have in common is unknown: an empty cell.
    assert heatmap["z"] == [[1.0, None], [None, 1.0]]
    assert "holds 3.0% of its equity" in text
    assert "at 95% over 1 day<" in text
    assert "undefined" in text
    assert text.count("<th>Instrument</th>") == 1


def test_an_account_that_holds_nothing_or_has_nothing(page: Any, account: Account) -> None:
    assert "paper holds nothing" in page(account="paper")
    Account.objects.update(cash=Decimal(-1))
    assert "no equity left" in page()
    assert heat_json(account=Account.objects.get())["heat"] is None


def test_without_an_account_the_page_says_so(page: Any, client: Any) -> None:
    assert "There is no account yet." in page()
    assert client.get(PAGE, {"account": "nobody"}).status_code == 404


def test_the_page_needs_leave_to_read_accounts(client: Any) -> None:
    client.force_login(make_user("guest", role=None, is_staff=True))
    assert client.get(PAGE).status_code == 403


def test_heat_as_programs_read_it(holding: Account) -> None:
    told = json.loads(json.dumps(heat_json(account=holding)))
    heat = told["heat"]
    assert told["limits"] == {"instrument": 0.15, "sector": 0.3, "gross": 1.0}
    assert heat["by_instrument"]["ethereum"] == pytest.approx(-0.015, abs=1e-3)
    assert heat["by_sector"] == {"test": pytest.approx(heat["gross"])}
    assert heat["by_direction"]["net"] == pytest.approx(0.0, abs=1e-3)
    assert heat["correlations"] == [{"instruments": ["bitcoin", "ethereum"], "correlation": None}]
    assert heat["tail"]["historical_var"] is None
