"""Accounts, books, risk and backtests over HTTP: shapes, roles, errors."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError
from rest_framework.test import APIClient

from collectors.models import Ohlcv
from risk.models import RiskDecision, RiskLimitChange, TradingState
from risk.selectors import read_desk
from trading.models import Account, Backtest, Fill, Position
from trading.services import advance_account, create_account

START = datetime.fromisoformat("2021-05-13T00:00:00+00:00")
HOUR = timedelta(hours=1)
pytestmark = pytest.mark.django_db


def test_everything_of_an_account_can_be_read(client_of: Any, holding: Account) -> None:
    client = client_of("viewer")
    base = f"/api/v1/accounts/{holding.pk}/"
    (summary,) = client.get("/api/v1/accounts/").json()["results"]
    assert summary["name"] == "paper"
    assert summary["open_positions"] == 1
    assert isinstance(summary["cash"], str)
    (position,) = client.get(f"{base}positions/").json()["results"]
    assert (position["quantity"], position["mark_price"]) == ("1.497", "100.0")
    assert position["unrealised_pnl"] == "-0.29940000"
    assert Decimal(summary["equity"]) == Decimal(summary["cash"]) - Decimal("0.2994")
    for kind, count in {"orders": 3, "fills": 1, "trades": 0, "ledger": 4, "equity": 1}.items():
        answer = client.get(f"{base}{kind}/").json()
        assert len(answer["results"]) == count, kind
    (fill,) = client.get(f"{base}fills/").json()["results"]
    assert (fill["price"], fill["quantity"], fill["side"]) == ("100.2", "1.497", "buy")
    heat = client.get(f"{base}heat/").json()["heat"]
    assert heat["by_direction"]["long"] == pytest.approx(149.7 / heat["equity"])
    assert (list(heat["by_instrument"]), heat["tail"]["historical_var"]) == (["bitcoin"], None)
    performance = client.get(f"{base}performance/").json()
    assert performance["sharpe_ratio"] is None
    assert client.get("/api/v1/accounts/999/ledger/").status_code == 404


def test_the_books_are_closed_to_strangers(api_client: APIClient, account: Account) -> None:
    assert api_client.get("/api/v1/accounts/").status_code == 401


def test_only_a_trader_trades(client_of: Any, holding: Account) -> None:
    client = client_of("operator")
    close = f"/api/v1/accounts/{holding.pk}/positions/bitcoin/close/"
    assert client.post(close).status_code == 403
    assert client.post("/api/v1/accounts/", {}, format="json").status_code == 403
    assert client.post("/api/v1/risk/state/", {}, format="json").status_code == 403
    assert Position.objects.get().quantity_steps


def test_a_trader_closes_a_position(client_of: Any, holding: Account) -> None:
    client = client_of("trader")
    base = f"/api/v1/accounts/{holding.pk}/positions/"
    answer = client.post(f"{base}bitcoin/close/")
    assert (answer.status_code, answer.json()["leg"]) == (201, "close")
    assert client.post(f"{base}bitcoin/close/").status_code == 404
    assert client.post(f"{base}nosuch/close/").status_code == 404
    assert Fill.objects.count() == 2
    (trade,) = client.get(f"/api/v1/accounts/{holding.pk}/trades/").json()["results"]
    assert 0.0 <= trade["holding_hours"] < 1.0 / 60


def test_without_a_quote_a_close_says_so(client_of: Any, world: Any, holding: Account) -> None:
    world.at(START + 3 * HOUR)
    answer = client_of("trader").post(f"/api/v1/accounts/{holding.pk}/positions/bitcoin/close/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "no_quote")


def test_a_trader_opens_and_changes_accounts(client_of: Any, account: Account) -> None:
    client = client_of("trader")
    made = client.post(
        "/api/v1/accounts/", {"name": "second", "initial_capital": "500"}, format="json"
    )
    assert made.status_code == 201
    again = client.post(
        "/api/v1/accounts/", {"name": "second", "initial_capital": "500"}, format="json"
    )
    assert (again.status_code, again.json()["error"]["code"]) == (400, "invalid")
    wrong = client.post(
        "/api/v1/accounts/", {"name": "third", "initial_capital": "-5"}, format="json"
    )
    assert wrong.status_code == 400
    changed = client.patch(f"/api/v1/accounts/{account.pk}/", {"is_active": False}, format="json")
    assert changed.status_code == 200
    assert not Account.objects.get(pk=account.pk).is_active
    assert Account.objects.count() == 2


def test_the_switch_records_who_and_why(client_of: Any, account: Account) -> None:
    client = client_of("trader")
    wrong = client.post("/api/v1/risk/state/", {"state": "paused"}, format="json")
    assert set(wrong.json()["error"]["fields"]) == {"state", "reason"}
    answer = client.post(
        "/api/v1/risk/state/", {"state": "halted", "reason": "holiday"}, format="json"
    )
    assert answer.status_code == 200
    (state,) = client.get("/api/v1/risk/state/").json()["results"]
    assert (state["state"], state["reason"], state["by"]) == ("halted", "holiday", "trader")
    account.profile.refresh_from_db()
    assert account.profile.trading_state == TradingState.HALTED


def test_the_desks_switch_rules_every_account(client_of: Any, account: Account) -> None:
    client = client_of("trader")
    wish = {"scope": "desk", "state": "reducing", "reason": "storm"}
    wrong = client.post("/api/v1/risk/state/", {**wish, "account": "paper"}, format="json")
    assert (wrong.status_code, set(wrong.json()["error"]["fields"])) == (400, {"scope"})
    nobody = {"account": "nobody", "state": "halted", "reason": "x"}
    assert client.post("/api/v1/risk/state/", nobody, format="json").status_code == 404
    answer = client.post("/api/v1/risk/state/", wish, format="json").json()
    assert (answer["scope"], answer["effective"], answer["by"]) == ("desk", "reducing", "trader")
    # Who asks again, for want of an answer, must not undo what somebody else has done since.
    key = {"Idempotency-Key": "calm"}
    calm = {"scope": "desk", "state": "active", "reason": "calm"}
    first = client.post("/api/v1/risk/state/", calm, format="json", headers=key)
    client.post("/api/v1/risk/state/", wish, format="json")
    again = client.post("/api/v1/risk/state/", calm, format="json", headers=key)
    assert (again.json(), again.headers["Idempotent-Replay"]) == (first.json(), "true")
    states = client.get("/api/v1/risk/state/").json()
    assert (states["desk"]["state"], states["is_stale"]) == ("reducing", False)
    (paper,) = states["results"]
    assert (paper["account"], paper["state"], paper["effective"]) == ("paper", "active", "reducing")
    (summary,) = client.get("/api/v1/accounts/").json()["results"]
    assert summary["trading_state"] == "reducing"


def test_limits_change_within_bounds(client_of: Any, account: Account) -> None:
    client = client_of("trader")
    address = "/api/v1/risk/limits/max_drawdown/"
    assert client.patch(address, {"value": 0.3}, format="json").json()["value"] == 0.3
    for body in ({"value": 1.5}, {"value": -1}, {"value": "NaN"}, {}):
        assert client.patch(address, body, format="json").status_code == 400, body
    unknown = client.patch("/api/v1/risk/limits/trading_state/", {"value": 1}, format="json")
    assert unknown.status_code == 400
    values = {
        row["name"]: row["value"] for row in client.get("/api/v1/risk/limits/").json()["results"]
    }
    assert values["max_drawdown"] == 0.3


def test_an_assessment_has_the_promised_shape(client_of: Any, world: Any, account: Account) -> None:
    world.listed("bitcoin")
    asked = {
        "signal_id": "abc",
        "asset": "bitcoin",
        "signal_type": "LONG",
        "price": 50_000.0,
        "confidence": 0.8,
    }
    answer = client_of("trader").post("/api/v1/risk/assess/", asked, format="json").json()
    assessment = answer["risk_assessment"]
    assert assessment["is_approved"]
    assert assessment["recommended_position_size"] == pytest.approx(160.0)
    assert assessment["stop_loss_price"] == pytest.approx(49_000.0)
    assert assessment["risk_reward_ratio"] == pytest.approx(2.0)
    assert answer["risk_limits_enforcement"]["daily_loss_vs_limit"]["limit_amount"] == 500.0
    assert answer["risk_config_snapshot"]["max_leverage"] == 1.0
    assert RiskDecision.objects.get().inputs["context"]["signal_id"] == "abc"


@pytest.mark.parametrize("price", [1e300, -1.0, 0.0])
def test_an_absurd_price_is_refused_and_recorded(
    client_of: Any, world: Any, account: Account, price: Any
) -> None:
    world.listed("bitcoin")
    asked = {"asset": "bitcoin", "signal_type": "SHORT", "price": price, "confidence": 0.8}
    answer = client_of("trader").post("/api/v1/risk/assess/", asked, format="json")
    assert answer.status_code == 200, answer.json()
    assert answer.json()["risk_assessment"]["rejection_reason"] == "invalid_request"
    assert RiskDecision.objects.get().rejection_reason == "invalid_request"


@pytest.mark.parametrize("price", ["NaN", "Infinity", '"NaN"', '"abc"', "null", "[]"])
def test_what_is_no_number_is_refused_and_recorded(
    client_of: Any, world: Any, account: Account, price: str
) -> None:
    world.listed("bitcoin")
    said = '"asset": "bitcoin", "signal_type": "LONG", "confidence": 0.8, "price": '
    body = "{" + said + price + "}"
    client = client_of("trader")
    answer = client.post("/api/v1/risk/assess/", body, content_type="application/json")
    assert (answer.status_code, set(answer.json()["error"]["fields"])) == (400, {"price"})
    decision = RiskDecision.objects.get()
    assert (decision.is_approved, decision.rejection_reason) == (False, "invalid_request")
    address, wish = "/api/v1/risk/limits/max_drawdown/", '{"value": ' + price + "}"
    limit = client.patch(address, wish, content_type="application/json")
    assert limit.status_code == 400
    kept = RiskLimitChange.objects.get()
    assert (kept.name, kept.new_value, kept.refusal != "") == ("max_drawdown", None, True)


def test_shares_beyond_all_numbers_are_null(client_of: Any, world: Any, account: Account) -> None:
    world.listed("bitcoin")
    asked = {
        "asset": "bitcoin",
        "signal_type": "LONG",
        "price": 100.0,
        "confidence": 0.8,
        "portfolio_state": {"equity": 1e-300, "gross_exposure": 1e300},
    }
    answer = client_of("trader").post("/api/v1/risk/assess/", asked, format="json")
    assessment = answer.json()["risk_assessment"]
    assert (assessment["is_approved"], assessment["portfolio_heat"]) == (False, None)
    assert RiskDecision.objects.get().outputs["usage"]["leverage"] == "inf"


def test_a_word_that_nobody_knows_is_not_passed_over(
    client_of: Any, world: Any, account: Account
) -> None:
    world.listed("bitcoin")
    client = client_of("trader")
    halt = {"state": "halted", "reason": "x", "acount": "second"}
    answer = client.post("/api/v1/risk/state/", halt, format="json")
    assert (answer.status_code, set(answer.json()["error"]["fields"])) == (400, {"acount"})
    account.profile.refresh_from_db()
    assert account.profile.trading_state == TradingState.ACTIVE
    ask = {"asset": "bitcoin", "signal_type": "LONG", "price": 100.0, "confidence": 0.8}
    for wrong in ({"leverage": 2}, {"portfolio_state": {"equity": 1e3, "exposure": 1e6}}):
        answer = client.post("/api/v1/risk/assess/", {**ask, **wrong}, format="json")
        assert answer.status_code == 400, wrong
    refusals = RiskDecision.objects.values_list("rejection_reason", flat=True)
    assert list(refusals) == ["invalid_request"] * 2


def test_a_switch_that_somebody_holds_up_is_set_and_says_so(
    client_of: Any, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held() -> None:
        raise OperationalError("canceling statement due to lock timeout")

    monkeypatch.setattr("trading.services.trading_state.hold_desk", held)
    wish = {"scope": "desk", "state": "halted", "reason": "storm"}
    answer = client_of("trader").post("/api/v1/risk/state/", wish, format="json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "still_at_work")
    assert read_desk().trading_state == TradingState.HALTED


def test_a_stated_portfolio_is_judged_in_place_of_the_books(
    client_of: Any, world: Any, account: Account
) -> None:
    world.listed("bitcoin")
    asked = {
        "asset": "bitcoin",
        "signal_type": "LONG",
        "price": 50_000.0,
        "confidence": 0.8,
        "portfolio_state": {"equity": 7_000.0, "high_water_mark": 10_000.0},
    }
    client = client_of("trader")
    answer = client.post("/api/v1/risk/assess/", asked, format="json").json()
    assert answer["risk_assessment"]["rejection_reason"] == "max_drawdown"
    asked["portfolio_state"] = {}
    assert client.post("/api/v1/risk/assess/", asked, format="json").status_code == 400


def test_a_backtest_is_accepted_followed_and_cancelled(
    client_of: Any, world: Any, account: Account
) -> None:
    for hour in range(2):
        world.candle("bitcoin", START + hour * HOUR, (100.0, 101.0, 99.0, 100.0))
    world.at(START + 100 * HOUR)
    client = client_of("operator")
    asked = {
        "strategy_name": "mean_reversion",
        "instruments": ["bitcoin"],
        "start_date": "2021-05-13T00:00:00Z",
        "end_date": "2021-05-15T00:00:00Z",
    }
    wrong = client.post("/api/v1/backtests/", {**asked, "start_date": "soon"}, format="json")
    assert wrong.status_code == 400
    answer = client.post("/api/v1/backtests/", asked, format="json")
    assert answer.status_code == 202
    detail = client.get(answer.headers["Location"]).json()
    assert (detail["state"], detail["progress_pct"]) == ("queued", 0.0)
    assert detail["final_value"] is None
    assert len(client.get("/api/v1/backtests/").json()["results"]) == 1
    cancelled = client.post(f"{answer.headers['Location']}cancel/").json()
    assert (cancelled["cancelled"], cancelled["state"]) == (True, "cancelled")
    assert Backtest.objects.count() == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("instruments", ["nosuch"]),
        ("strategy_name", "nosuch"),
        ("strategy_name", "consensus"),
        ("timeframe", "1d"),
        ("timeframe", "7h"),
        ("parameters", {"nosuch": 1}),
        ("initial_capital", "99999999999"),
        ("start_date", "9999-12-31T00:00:00Z"),
    ],
)
def test_a_backtest_that_cannot_run_is_refused_by_field(
    client_of: Any, world: Any, field: str, value: Any
) -> None:
    for hour in range(2):
        world.candle("bitcoin", START + hour * HOUR, (100.0, 101.0, 99.0, 100.0))
    world.at(START + 100 * HOUR)
    asked = {
        "strategy_name": "mean_reversion",
        "instruments": ["bitcoin"],
        "start_date": "0001-01-01T00:00:00Z",
        "end_date": "9999-12-31T00:00:00Z",
    }
    client = client_of("operator")
    answer = client.post("/api/v1/backtests/", {**asked, field: value}, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [field]
    answer = client.post("/api/v1/backtests/", asked, format="json")
    assert answer.status_code == 202
    first = Ohlcv.objects.earliest("open_time").open_time
    assert datetime.fromisoformat(answer.json()["start_date"]) == first
    assert Backtest.objects.count() == 1


@pytest.mark.parametrize("names", [["nope"], [5], ["consensus", "nope"], [True], "consensus"])
def test_an_account_follows_only_what_exists(client_of: Any, account: Account, names: Any) -> None:
    client = client_of("trader")
    new = {"name": "second", "initial_capital": "500", "subscriptions": names}
    for answer in (
        client.post("/api/v1/accounts/", new, format="json"),
        client.patch(f"/api/v1/accounts/{account.pk}/", {"subscriptions": names}, format="json"),
    ):
        assert answer.status_code == 400
        assert list(answer.json()["error"]["fields"]) == ["subscriptions"]
    assert Account.objects.get().subscriptions == ["consensus"]


def test_an_account_that_follows_nothing_enters_nothing(client_of: Any, world: Any) -> None:
    client = client_of("trader")
    new = {"name": "idle", "initial_capital": "500", "subscriptions": []}
    assert client.post("/api/v1/accounts/", new, format="json").status_code == 201
    account = Account.objects.get()
    assert account.subscriptions == []
    changed = {"subscriptions": ["mean_reversion", "consensus"]}
    address = f"/api/v1/accounts/{account.pk}/"
    assert client.patch(address, changed, format="json").status_code == 200
    assert client.patch(address, {"subscriptions": []}, format="json").status_code == 200
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    assert advance_account(account_id=account.pk) == 1
    assert not Fill.objects.exists()


def test_of_several_accounts_one_is_named(client_of: Any, account: Account, world: Any) -> None:
    client = client_of("trader")
    world.listed("bitcoin")
    create_account(name="second", initial_capital=Decimal(500))
    ask = {"asset": "bitcoin", "signal_type": "LONG", "price": 100.0, "confidence": 0.8}
    halt = {"state": "halted", "reason": "which?"}
    limit = {"value": 0.3}
    for method, path, body, field in (
        ("post", "risk/state/", halt, "account"),
        ("patch", "risk/limits/max_drawdown/", limit, "profile"),
        ("post", "risk/assess/", ask, "account"),
    ):
        send = getattr(client, method)
        refused = send(f"/api/v1/{path}", body, format="json")
        assert refused.status_code == 400, path
        assert refused.json()["error"]["fields"] == {field: ["name one: paper, second"]}
        named = "second" if path != "risk/assess/" else Account.objects.get(name="second").pk
        assert send(f"/api/v1/{path}", {**body, field: named}, format="json").status_code == 200
    first, second = client.get("/api/v1/risk/state/").json()["results"]
    assert (first["state"], second["state"]) == ("active", "halted")
    stated = client.post(
        "/api/v1/risk/assess/", {**ask, "portfolio_state": {"equity": 1000}}, format="json"
    )
    assert stated.status_code == 200
