"""An account as a client watches it: a real server, real sockets, a database that goes away."""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.db import connection
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from collectors.models import Instrument, Listing
from tests.collectors.livebooks import book_value, store
from tests.factories import make_instrument
from tests.realtime.conftest import WebProcess
from tests.realtime.listening import WAIT_S, bearer, close_code, receive
from trading.models import Account, Position
from trading.services import create_account, set_trading_state

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def account() -> Account:
    """Ten thousand, and half a bitcoin bought at 50,000."""
    made = create_account(name="paper", initial_capital=Decimal(30_000))
    Position.objects.create(
        account=made,
        instrument=listed("bitcoin", "BTCUSDT"),
        quantity_steps=500,
        total_cost=Decimal(25_000),
        tick_size="0.1",
        quantity_step="0.001",
    )
    return made


def listed(coin_id: str, symbol: str) -> Instrument:
    instrument = make_instrument(coin_id)
    Listing.objects.create(
        instrument=instrument,
        exchange="binance",
        symbol=symbol,
        tick_size="0.1",
        quantity_step="0.001",
    )
    return instrument


def watch(web: WebProcess, name: Any, **options: Any) -> Any:
    """A connection with a viewer's login."""
    options.setdefault("additional_headers", bearer())
    return connect(f"{web.websocket_url}/accounts/{name}/", **options)


def wait_for(stream: ClientConnection, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first message that is it; fails when none comes in time."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        message = receive(stream)
        if is_it(message):
            return message
    raise AssertionError(f"the last message was {message}")


def mark_of(message: dict[str, Any]) -> str:
    return message["data"]["positions"][0]["mark_price"]


def test_an_account_is_marked_at_the_newest_quotes(
    web_process: WebProcess, account: Account, redis_client: redis.Redis
) -> None:
    store(redis_client, book_value(best_bid=51_000.0, best_ask=51_000.2))
    with watch(web_process, account.pk) as stream:
        hello = {"type": "hello", "topic": "account", "account": account.pk, "name": "paper"}
        assert receive(stream) == hello
        message = receive(stream)
        data = message["data"]
        assert (message["type"], message["is_current"]) == ("account", True)
        assert (data["cash"], data["equity"]) == ("30000.00000000", "30500.05000000")
        assert (data["unrealised_pnl"], data["daily_pnl"]) == ("500.05000000", "500.05000000")
        (position,) = data["positions"]
        assert (position["mark_price"], position["marked_at"]) == ("51000.1", "quote")
        store(redis_client, book_value(best_bid=49_000.0, best_ask=49_000.2))
        told = wait_for(stream, lambda message: message["data"]["equity"] != data["equity"])["data"]
        assert told["unrealised_pnl"] == "-499.95000000"
        assert told["drawdown"] == pytest.approx(499.95 / 30_000)
        set_trading_state(account_id=account.pk, state="halted", reason="a test", by="tester")
        wait_for(stream, lambda message: message["data"]["trading_state"] == "halted")


def test_it_speaks_when_something_changed_or_to_show_that_it_lives(
    web_process: WebProcess, account: Account, redis_client: redis.Redis
) -> None:
    store(redis_client, book_value())
    with watch(web_process, account.pk) as stream:
        receive(stream)
        first, began = receive(stream), time.monotonic()
        second = receive(stream)
        assert 2 < time.monotonic() - began < 5
        assert (second["data"], second["at"] > first["at"]) == (first["data"], True)
        began = time.monotonic()
        for number in range(100):
            store(redis_client, book_value(best_bid=50_000.0 - number, best_ask=50_001.0 - number))
            time.sleep(0.01)
        found = 1
        while mark_of(receive(stream)) != "49901.5":
            found += 1
        assert 2 <= found <= (time.monotonic() - began) / 0.3 + 2


@pytest.mark.parametrize("name", ["999999", "paper", "-1", "9" * 30, "%C2%B2"])
def test_an_account_that_there_is_not_is_refused(web_process: WebProcess, name: str) -> None:
    with watch(web_process, name) as stream:
        assert receive(stream)["code"] == "account_unknown"
        assert close_code(stream) == 4404


def test_logins_are_asked_for_as_by_every_stream(web_process: WebProcess, account: Account) -> None:
    with watch(web_process, account.pk, additional_headers={}) as stream:
        assert close_code(stream) == 4401
    with watch(web_process, account.pk, additional_headers=bearer(role=None)) as stream:
        assert close_code(stream) == 4403
    with (
        pytest.raises(InvalidStatus),
        watch(web_process, account.pk, origin="http://evil.example"),
    ):
        pass


def test_it_goes_on_when_the_database_is_back(
    web_process: WebProcess, account: Account, redis_client: redis.Redis
) -> None:
    store(redis_client, book_value())
    with watch(web_process, account.pk) as stream:
        receive(stream)
        before = receive(stream)
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE trading_position RENAME TO trading_position_away")
        try:
            away = wait_for(stream, lambda message: not message["is_current"])
            assert away["data"] == before["data"]
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE trading_position_away RENAME TO trading_position")
        assert wait_for(stream, lambda message: message["is_current"])["data"] == before["data"]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with watch(web_process, account.pk) as stream:
        receive(stream)
        assert receive(stream)["is_current"]
