"""Orders by a person over HTTP: placed, refused, cancelled, flattened, and each done once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from collectors.models import AnsweredWrite
from risk.models import RiskDecision, TradingState
from tests.factories import make_instrument
from trading.models import (
    Account,
    Fill,
    LedgerEntry,
    Order,
    OrderKind,
    OrderLeg,
    OrderStatus,
    Position,
    RefusedRequest,
)
from trading.services import set_trading_state
from trading.services.sweeping import work_account

START = datetime.fromisoformat("2021-05-13T00:00:00+00:00")
HOUR = timedelta(hours=1)
pytestmark = pytest.mark.django_db

BUY = {"instrument": "bitcoin", "side": "buy", "quantity": "1.5"}


class Desk:
    """A trader's client at one account."""

    def __init__(self, client: Any, account: Account) -> None:
        self.client = client
        self.base = f"/api/v1/accounts/{account.pk}/"

    def order(self, body: Any, **headers: str) -> Any:
        return self.client.post(f"{self.base}orders/", body, format="json", headers=headers)

    def post(self, address: str, **headers: str) -> Any:
        return self.client.post(address, headers=headers)


@pytest.fixture
def desk(world: Any, account: Account, client_of: Any) -> Desk:
    """A trader, and a market in bitcoin at 100 to 100.1."""
    world.listed("bitcoin")
    world.quote("bitcoin", 100.0, 100.1)
    return Desk(client_of("trader"), account)


def throw_switch(account: Account, state: str) -> None:
    set_trading_state(account_id=account.pk, state=state, reason="a test", by="tester")


def written() -> tuple[int, int, int, int]:
    """Everything that an order could leave behind, but for the refusal's row."""
    return (
        Order.objects.count(),
        Fill.objects.count(),
        Position.objects.count(),
        LedgerEntry.objects.count(),
    )


def test_a_market_order_is_filled_at_once_and_protected(desk: Desk) -> None:
    answer = desk.order(BUY)
    assert answer.status_code == 201, answer.json()
    (order,), (fill,) = answer.json()["orders"], answer.json()["fills"]
    assert (order["kind"], order["status"], order["filled_quantity"]) == (
        "market", "filled", "1.500",
    )  # fmt: skip
    assert (order["placed_by"], order["leg"], order["reduce_only"]) == ("trader", "open", False)
    assert fill["quantity"] == "1.500"
    assert answer.json()["decision"]["is_approved"]
    position = Position.objects.get()
    assert position.quantity_steps == 1500
    working = Order.objects.filter(status=OrderStatus.WORKING)
    assert {row.leg for row in working} == {OrderLeg.STOP_LOSS, OrderLeg.TAKE_PROFIT}
    assert RiskDecision.objects.get().inputs["context"]["order"]["placed_by"] == "trader"


def test_a_limit_order_rests_on_its_ticks(desk: Desk) -> None:
    body = {
        "instrument": "bitcoin", "direction": "LONG", "kind": "limit", "limit_price": "98.5",
        "notional": "150", "stop_loss": "97", "take_profit": "101.5",
    }  # fmt: skip
    answer = desk.order(body)
    assert answer.status_code == 201, answer.json()
    order = Order.objects.get()
    assert (order.status, order.limit_ticks, order.quantity_steps) == ("working", 985, 1522)
    assert (order.stop_loss, order.take_profit) == (97.0, 101.5)
    assert Fill.objects.count() == 0
    (listed,) = desk.client.get(f"{desk.base}orders/?status=working&kind=limit").json()["results"]
    assert (listed["limit_price"], listed["quantity"]) == ("98.5", "1.522")
    assert desk.client.get(f"{desk.base}orders/?status=nonsense").status_code == 400


def test_a_pair_is_one_group_and_each_kind_takes_its_own_prices(desk: Desk) -> None:
    pair = {
        **BUY, "kind": "limit", "limit_price": "98",
        "oco": {"kind": "stop_limit", "trigger_price": "102", "limit_price": "102.1"},
    }  # fmt: skip
    assert desk.order(pair).status_code == 201
    first, second = Order.objects.order_by("id")
    assert first.oco == second.oco != ""
    assert (second.kind, second.trigger_ticks, second.limit_ticks) == ("stop_limit", 1020, 1021)
    trailing = {**BUY, "kind": "trailing_stop", "trail": "2"}
    assert desk.order(trailing).json()["orders"][0]["trail"] == "2.0"
    lacking = desk.order({**BUY, "kind": "stop", "limit_price": "98"})
    assert (lacking.status_code, set(lacking.json()["error"]["fields"])) == (
        400, {"trigger_price"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field", "word"),
    [
        ({"kind": "limit", "limit_price": "98.55"}, "limit_price", "98.5 and 98.6"),
        ({"quantity": "1.5005"}, "quantity", "1.500 and 1.501"),
        ({"quantity": "0.0001"}, "quantity", "least is 0.001"),
        ({"quantity": "0"}, "quantity", "above 0"),
        ({"quantity": "-1"}, "quantity", "above 0"),
        ({"quantity": "1e18"}, "quantity", "above 0"),
        ({"quantity": "4000000"}, "quantity", "at most"),
        ({"quantity": "NaN"}, "quantity", ""),
        ({"quantity": "1e400"}, "quantity", ""),
        ({"quantity": [1]}, "quantity", ""),
        ({"quantity": None}, "quantity", ""),
        ({"notional": "5"}, "quantity", "either"),
        ({"kind": "limit", "limit_price": "-98"}, "limit_price", "above 0"),
        ({"kind": "limit", "limit_price": "1e13"}, "limit_price", "above 0"),
        ({"stop_loss": "97.777"}, "stop_loss", "97.7 and 97.8"),
        ({"time_in_force": "gtd"}, "expires_at", "needs it"),
        ({"expires_at": "2021-05-12T00:00:00Z"}, "expires_at", "after"),
        ({"direction": "LONG"}, "side", "either"),
        ({"limitprice": "98"}, "limitprice", "unknown"),
        ({"instrument": "nosuch"}, "instrument", ""),
        ({"instrument": "\x00"}, "instrument", ""),
        ({"oco": {"kind": "limit", "\x00": 1}}, "oco", "unknown"),
        ({"expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at", ""),
    ],
)
def test_what_is_no_order_is_refused_with_its_reason(
    desk: Desk, change: dict[str, Any], field: str, word: str
) -> None:
    before = written()
    answer = desk.order({**BUY, **change})
    assert answer.status_code == 400, answer.json()
    error = answer.json()["error"]
    assert (error["code"], list(error["fields"])) == ("invalid", [field])
    assert word in str(error["fields"][field])
    assert written() == before
    rows = RiskDecision.objects.values_list("rejection_reason", flat=True)
    assert list(rows) == ([] if field == "instrument" else ["invalid_request"])


def test_what_risk_does_not_grant_is_refused_whole(desk: Desk, account: Account) -> None:
    before = written()
    answer = desk.order({**BUY, "quantity": "5"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "larger_than_granted")
    granted = answer.json()["granted_quantity"]
    assert desk.order({**BUY, "quantity": granted}).status_code == 201
    (row,) = RiskDecision.objects.filter(is_approved=False)
    assert answer.json()["decision"]["id"] == row.pk
    assert row.inputs["context"]["granted_quantity"] == granted
    assert written() != before


def test_risks_own_refusal_is_the_row_and_the_answer(desk: Desk, account: Account) -> None:
    before = written()
    answer = desk.order({**BUY, "stop_loss": "150"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "stop_passed")
    assert answer.json()["decision"]["rejection_reason"] == "stop_passed"
    assert RiskDecision.objects.get().inputs["price"] > 100.0
    assert written() == before


def test_halted_trading_still_closes_and_never_turns(
    desk: Desk, account: Account, holding: Account, world: Any
) -> None:
    throw_switch(account, TradingState.HALTED)
    held = Position.objects.get().quantity_steps
    assert desk.order(BUY).json()["error"]["code"] == "trading_halted"
    more = {**BUY, "side": "sell", "quantity": "2"}
    turned = desk.order(more)
    assert (turned.status_code, turned.json()["error"]["code"]) == (409, "would_turn")
    part = desk.order({**BUY, "side": "sell", "quantity": "0.5"})
    assert part.json()["orders"][0]["leg"] == "close"
    assert Position.objects.get().quantity_steps == held - 500
    resting = {**more, "kind": "limit", "limit_price": "103", "reduce_only": True}
    assert desk.order(resting).json()["orders"][0]["quantity"] == "0.997"
    rest = desk.order({"instrument": "bitcoin", "side": "sell", "reduce_only": True})
    assert rest.status_code == 201
    assert Position.objects.get().quantity_steps == 0
    assert not Order.objects.filter(status=OrderStatus.WORKING).exists()
    nothing = desk.order({"instrument": "bitcoin", "side": "sell", "reduce_only": True})
    assert nothing.json()["error"]["code"] == "nothing_to_reduce"


def test_without_quote_or_listing_nothing_is_bought(
    desk: Desk, account: Account, world: Any
) -> None:
    before = written()
    world.at(START + 3 * HOUR)
    assert desk.order(BUY).json()["error"]["code"] == "no_quote"
    assert desk.order({**BUY, "kind": "limit", "limit_price": "98"}).status_code == 201
    Order.objects.all().delete()
    make_instrument("dogecoin")
    unlisted = desk.order({**BUY, "instrument": "dogecoin"})
    assert (unlisted.status_code, unlisted.json()["error"]["code"]) == (409, "no_listing")
    account.is_active = False
    account.save()
    off = desk.order({**BUY, "kind": "limit", "limit_price": "98"})
    assert off.json()["error"]["code"] == "account_inactive"
    assert written() == before


def test_an_account_without_cash_buys_nothing(desk: Desk, account: Account) -> None:
    Account.objects.filter(pk=account.pk).update(cash=0)
    before = written()
    answer = desk.order(BUY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "invalid_request")
    assert written() == before


def test_of_a_pair_the_one_that_the_market_reaches_fills_and_is_protected(
    desk: Desk, account: Account, world: Any
) -> None:
    pair = {
        **BUY, "kind": "limit", "limit_price": "98", "stop_loss": "96", "take_profit": "103",
        "oco": {"kind": "stop", "trigger_price": "102"},
    }  # fmt: skip
    assert desk.order(pair).status_code == 201
    world.at(START + timedelta(minutes=31))
    world.quote("bitcoin", 97.7, 97.8)
    work_account(account_id=account.pk)  # marketable on arrival: it takes, within its limit
    first, second = Order.objects.filter(leg=OrderLeg.OPEN).order_by("id")
    assert (first.status, second.status) == (OrderStatus.FILLED, OrderStatus.CANCELLED)
    assert Fill.objects.get().price_ticks <= 980
    position = Position.objects.get()
    assert (position.stop_loss, position.take_profit) == (96.0, 103.0)
    assert RiskDecision.objects.filter(is_approved=True).count() == 3  # placed twice, filled once


def test_a_resting_reduction_never_outlives_or_turns_what_it_reduces(
    desk: Desk, account: Account, world: Any, holding: Account
) -> None:
    target = {"instrument": "bitcoin", "side": "sell", "kind": "limit", "limit_price": "102"}
    assert desk.order({**target, "quantity": "1.2"}).status_code == 201
    assert desk.order({**BUY, "side": "sell", "quantity": "0.5"}).status_code == 201
    throw_switch(account, TradingState.HALTED)
    world.at(START + HOUR + timedelta(minutes=1))
    world.quote("bitcoin", 102.5, 102.6)
    work_account(account_id=account.pk)
    assert Position.objects.get().quantity_steps == 0
    assert not Order.objects.filter(status=OrderStatus.WORKING).exists()


def test_a_working_order_is_cancelled_once(desk: Desk) -> None:
    desk.order({**BUY, "kind": "limit", "limit_price": "98"})
    order = Order.objects.get()
    address = f"/api/v1/orders/{order.pk}/cancel/"
    assert desk.post(address).json()["status"] == "cancelled"
    ended = Order.objects.get().ended_at
    assert desk.post(address).json()["status"] == "cancelled"
    assert Order.objects.get().ended_at == ended
    assert desk.post("/api/v1/orders/999999/cancel/").status_code == 404


def test_a_cancelled_stop_is_no_longer_the_positions(desk: Desk, holding: Account) -> None:
    stop = Order.objects.get(leg=OrderLeg.STOP_LOSS)
    desk.post(f"/api/v1/orders/{stop.pk}/cancel/")
    position = Position.objects.get()
    assert (position.stop_loss, position.take_profit is None) == (None, False)


def test_flattening_closes_all_and_names_what_is_left(
    desk: Desk, account: Account, world: Any, holding: Account
) -> None:
    world.listed("ethereum")
    world.quote("ethereum", 10.0, 10.1)
    assert desk.order({**BUY, "instrument": "ethereum", "quantity": "9"}).status_code == 201
    entry = desk.order({**BUY, "quantity": "0.2", "kind": "limit", "limit_price": "98"})
    assert entry.status_code == 201
    world.quote("ethereum", 10.0, 10.1, at=START)
    answer = desk.post(f"{desk.base}flatten/").json()
    assert answer["is_flat"] is False
    assert list(answer["left"]) == ["ethereum"]
    assert answer["cancelled_orders"] == 1
    assert [fill["instrument"] for fill in answer["fills"]] == ["bitcoin"]
    stays = Order.objects.filter(status=OrderStatus.WORKING, instrument__coin_id="ethereum")
    assert stays.count() == 2
    throw_switch(account, TradingState.HALTED)
    world.quote("ethereum", 10.0, 10.1)
    assert desk.post(f"{desk.base}flatten/").json()["is_flat"] is True
    assert not Order.objects.filter(status=OrderStatus.WORKING).exists()


def test_the_same_key_orders_once(desk: Desk, client_of: Any) -> None:
    key = {"Idempotency-Key": "one"}
    first = desk.order(BUY, **key)
    again = desk.order(BUY, **key)
    assert again.json() == first.json()
    assert (again.status_code, again.headers["Idempotent-Replay"]) == (201, "true")
    assert (Order.objects.filter(kind=OrderKind.MARKET).count(), Fill.objects.count()) == (1, 1)
    other = desk.order({**BUY, "quantity": "0.3"}, **key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    refused = desk.order({**BUY, "quantity": "900"}, **{"Idempotency-Key": "two"})
    repeated = desk.order({**BUY, "quantity": "900"}, **{"Idempotency-Key": "two"})
    assert repeated.json() == refused.json()
    assert RiskDecision.objects.filter(is_approved=False).count() == 1
    wrong = desk.order({**BUY, "quantity": "x"}, **{"Idempotency-Key": "three"})
    assert wrong.status_code == 400
    mended = desk.order({**BUY, "quantity": "0.2"}, **{"Idempotency-Key": "three"})
    assert mended.status_code == 201
    assert AnsweredWrite.objects.count() == 3
    assert desk.order(BUY, **{"Idempotency-Key": "x" * 121}).status_code == 400


def test_the_key_of_every_write_is_heeded(desk: Desk, account: Account, holding: Account) -> None:
    key = {"Idempotency-Key": "close"}
    close = f"{desk.base}positions/bitcoin/close/"
    first = desk.post(close, **key)
    assert desk.post(close, **key).json() == first.json()
    assert desk.post(close).status_code == 404
    body = {"name": "second", "initial_capital": "500"}
    makes = [
        desk.client.post("/api/v1/accounts/", body, format="json", headers={"Idempotency-Key": "a"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in makes] == [201, 201]
    assert Account.objects.count() == 2


def test_risk_is_asked_and_changed_once_with_a_key(desk: Desk, account: Account) -> None:
    headers = {"Idempotency-Key": "r"}
    ask = {"asset": "bitcoin", "signal_type": "LONG", "price": 100.0, "confidence": 0.8}
    halt = {"state": "halted", "reason": "a test"}
    for number, (method, address, body) in enumerate(
        (
            ("post", "risk/assess/", ask),
            ("post", "risk/state/", halt),
            ("patch", "risk/limits/max_drawdown/", {"value": 0.3}),
        )
    ):
        headers["Idempotency-Key"] = f"r{number}"
        first, second = (
            getattr(desk.client, method)(f"/api/v1/{address}", body, format="json", headers=headers)
            for _ in range(2)
        )
        assert (first.status_code, second.json()) == (200, first.json()), address
        assert second.headers["Idempotent-Replay"] == "true"
    assert RiskDecision.objects.count() == 1


def test_an_account_changes_only_what_it_has(desk: Desk, account: Account) -> None:
    changed = desk.client.patch(
        desk.base, {"latency_ms": 250, "is_pyramiding": True}, format="json"
    ).json()
    assert (changed["latency_ms"], changed["is_pyramiding"]) == (250, True)
    unknown = desk.client.patch(desk.base, {"cash": "1e9"}, format="json")
    assert list(unknown.json()["error"]["fields"]) == ["cash"]
    for value in (-1, 60_001, "soon"):
        assert desk.client.patch(desk.base, {"latency_ms": value}, format="json").status_code == 400


def test_only_a_trader_orders(client_of: Any, desk: Desk, account: Account) -> None:
    client = client_of("operator")
    for address in (f"{desk.base}orders/", f"{desk.base}flatten/", "/api/v1/orders/1/cancel/"):
        assert client.post(address, BUY, format="json").status_code == 403
    assert Order.objects.count() == 0


HOSTILE = {
    "larger than any number": b'{"a": 1e999}',
    "a number of 5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "given twice": b'{"instrument": "bitcoin", "side": "buy", "side": "sell"}',
    "nested too deeply": b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "not UTF-8": b'{"a": "\xff"}',
    "half a surrogate pair": b'{"a": "\\ud800"}',
    "empty": b" ",
    "not JSON": b'{"instrument": ',
    "more than 1024 KiB": b" " * 2_000_000,
}


@pytest.mark.parametrize("reason", HOSTILE)
def test_hostile_json_is_refused_with_its_reason_as_a_row(
    desk: Desk, account: Account, reason: str
) -> None:
    for address in (f"{desk.base}orders/", "/api/v1/risk/assess/", "/api/v1/risk/state/"):
        answer = desk.client.post(address, HOSTILE[reason], content_type="application/json")
        assert answer.status_code == (413 if "KiB" in reason else 400), address
        assert reason in answer.json()["error"]["message"]
        row = RefusedRequest.objects.get(address=address)
        assert (reason in row.reason, row.by) == (True, "trader")
    assert not Order.objects.exists()
    assert not RiskDecision.objects.exists()


def test_what_names_no_instrument_leaves_a_row_too(desk: Desk, account: Account) -> None:
    answer = desk.client.post(f"{desk.base}orders/", {"side": "buy", "size": "\0"}, format="json")
    assert answer.status_code == 400
    assert RefusedRequest.objects.get().account == account
    desk.client.post("/api/v1/risk/assess/", [1, 2], format="json")
    assert RefusedRequest.objects.count() == 2
    assert "dictionary" in RefusedRequest.objects.first().reason


def test_what_is_no_json_by_its_own_word_leaves_a_row_too(desk: Desk) -> None:
    addresses = (f"{desk.base}orders/", "/api/v1/risk/assess/", "/api/v1/risk/state/")
    for address in addresses:
        answer = desk.client.post(address, b"side=buy", content_type="text/plain")
        assert answer.status_code == 415
    rows = RefusedRequest.objects.order_by("pk")
    assert [row.address for row in rows] == list(addresses)
    assert all("text/plain" in row.reason for row in rows)
