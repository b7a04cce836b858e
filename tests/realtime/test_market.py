"""The live market as a client meets it: a real server, real sockets, a Redis that goes away."""

import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from collectors import clock
from collectors.models import Instrument, Listing
from tests.collectors.livebooks import book_value, store, withheld_value
from tests.collectors.redis_server import RestartableRedis
from tests.factories import make_instrument, make_user
from tests.realtime.conftest import WebProcess
from tests.realtime.listening import WAIT_S, bearer, close_code, receive

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bitcoin() -> Instrument:
    """An instrument that two exchanges list."""
    return listed("bitcoin", "BTCUSDT", "binance", "bybit")


def listed(coin_id: str, symbol: str, *exchanges: str) -> Instrument:
    instrument = make_instrument(coin_id)
    for exchange in exchanges:
        Listing.objects.create(
            instrument=instrument,
            exchange=exchange,
            symbol=symbol,
            tick_size="0.1",
            quantity_step="0.001",
        )
    return instrument


def follow(web: WebProcess, name: str = "BTCUSDT", query: str = "", **options: Any) -> Any:
    """A connection with a viewer's login."""
    options.setdefault("additional_headers", bearer())
    return connect(f"{web.websocket_url}/market/{name}/{query}", **options)


def wait_for(stream: ClientConnection, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first message that is it; fails when none comes in time."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        message = receive(stream)
        if message["type"] == "market" and is_it(message["exchanges"]):
            return message
    raise AssertionError(f"the last message was {message}")


def test_the_books_of_all_exchanges_come_together(
    web_process: WebProcess, bitcoin: Instrument, redis_client: redis.Redis
) -> None:
    store(redis_client, book_value(), withheld_value("bybit"))
    with follow(web_process) as stream:
        assert receive(stream) == {
            "type": "hello",
            "topic": "market",
            "symbol": "BTCUSDT",
            "levels": 20,
            "exchanges": ["binance", "bybit"],
        }
        message = receive(stream)
    assert (message["type"], message["symbol"]) == ("market", "BTCUSDT")
    binance, bybit = message["exchanges"]["binance"], message["exchanges"]["bybit"]
    assert binance["received_at"] <= message["at"]
    assert (binance["is_synced"], binance["best_bid"], binance["sequence"]) == (True, 50_000.0, 17)
    assert len(binance["bids"]) == len(binance["asks"]) == 20
    assert binance["bids"][1] == [49_999.9, 2.5]
    assert binance["depth_bps"] == {"10": [150_000.0, 149_000.5], "50": None}
    assert binance["health"]["gaps"] == 2
    assert (bybit["is_synced"], bybit["reason"], bybit["bids"]) == (False, "gap in sequence", [])


def test_a_coin_is_followed_by_its_id_with_the_levels_that_are_asked_for(
    web_process: WebProcess, bitcoin: Instrument, redis_client: redis.Redis
) -> None:
    store(redis_client, book_value())
    with follow(web_process, "bitcoin", "?levels=3") as stream:
        assert receive(stream)["symbol"] == "bitcoin"
        books = receive(stream)["exchanges"]
    assert (books["binance"]["symbol"], len(books["binance"]["bids"])) == ("BTCUSDT", 3)
    assert books["bybit"]["reason"] == "not streamed"


def test_only_what_is_newest_comes_and_at_most_five_times_a_second(
    web_process: WebProcess, bitcoin: Instrument, redis_client: redis.Redis
) -> None:
    store(redis_client, book_value(sequence=0))
    with follow(web_process) as stream:
        receive(stream)
        wait_for(stream, lambda books: books["binance"]["sequence"] == 0)
        began = time.monotonic()
        for number in range(1, 201):
            store(redis_client, book_value(sequence=number))
            time.sleep(0.005)
        took = time.monotonic() - began
        found = []
        while not found or found[-1] != 200:
            found.append(receive(stream)["exchanges"]["binance"]["sequence"])
    assert found == sorted(set(found))
    assert 2 <= len(found) <= took / 0.2 + 2


def test_a_quiet_market_says_that_it_lives(
    web_process: WebProcess, bitcoin: Instrument, redis_client: redis.Redis
) -> None:
    store(redis_client, book_value())
    with follow(web_process) as stream:
        receive(stream)
        first, began = receive(stream), time.monotonic()
        second = receive(stream)
        assert 2 < time.monotonic() - began < 5
    assert second["exchanges"] == first["exchanges"]
    assert second["at"] > first["at"]


def test_a_book_that_stops_is_told_without_its_old_prices(
    web_process: WebProcess, bitcoin: Instrument, redis_client: redis.Redis
) -> None:
    old = clock.wall_now() - timedelta(seconds=28)
    store(redis_client, book_value(received_at=old))
    with follow(web_process) as stream:
        wait_for(stream, lambda books: books["binance"]["is_synced"])
        books = wait_for(stream, lambda books: not books["binance"]["is_synced"])["exchanges"]
    assert books["binance"]["reason"].startswith("nothing new")
    assert (books["binance"]["best_bid"], books["binance"]["bids"]) == (None, [])


def test_while_redis_is_away_no_price_is_told_and_afterwards_the_new_one(
    web_of_own_redis: WebProcess, bitcoin: Instrument, own_redis: RestartableRedis
) -> None:
    store(own_redis.client, book_value())
    with follow(web_of_own_redis) as stream:
        wait_for(stream, lambda books: books["binance"]["is_synced"])
        for _ in range(2):
            own_redis.kill()
            lost = wait_for(stream, lambda books: not books["binance"]["is_synced"])
            book = lost["exchanges"]["binance"]
            assert (book["reason"], book["best_bid"]) == ("Redis does not answer", None)
            assert (book["bids"], book["health"]["gaps"]) == ([], 2)
            own_redis.start()
            store(own_redis.client, book_value(sequence=18))
            back = wait_for(stream, lambda books: books["binance"]["is_synced"])
            assert back["exchanges"]["binance"]["sequence"] == 18
    assert web_of_own_redis.log.read_text().count("markets_not_readable") == 2


@pytest.mark.parametrize("name", ["NOSUCH", "nocoin", "btcusdt", "%E2%82%BF", "x" * 300])
def test_a_name_that_nobody_knows_is_refused(
    web_process: WebProcess, bitcoin: Instrument, name: str
) -> None:
    with follow(web_process, name) as stream:
        error = receive(stream)
        assert (error["type"], error["code"]) == ("error", "symbol_unknown")
        assert len(error["message"]) < 200
        assert close_code(stream) == 4404


@pytest.mark.parametrize("levels", ["0", "51", "", "x", "-1", "1.5", "9" * 30, "%C2%B2"])
def test_a_wrong_level_count_is_refused(
    web_process: WebProcess, bitcoin: Instrument, levels: str
) -> None:
    with follow(web_process, query=f"?levels={levels}") as stream:
        assert receive(stream)["code"] == "levels_malformed"
        assert close_code(stream) == 4400


def test_logins_are_asked_for_as_by_every_stream(
    web_process: WebProcess, bitcoin: Instrument, api_client: APIClient
) -> None:
    with follow(web_process, additional_headers={}) as stream:
        assert close_code(stream) == 4401
    with follow(web_process, additional_headers=bearer(role=None)) as stream:
        assert close_code(stream) == 4403
    with pytest.raises(InvalidStatus), follow(web_process, origin="http://evil.example"):
        pass
    api_client.force_login(make_user())
    ticket = api_client.post("/api/v1/ws-ticket/").json()["ticket"]
    with follow(web_process, query=f"?ticket={ticket}", additional_headers={}) as stream:
        assert receive(stream)["type"] == "hello"
    assert ticket not in web_process.log.read_text()


def test_a_stream_ends_when_its_token_does(web_process: WebProcess, bitcoin: Instrument) -> None:
    token = AccessToken.for_user(make_user())
    token.set_exp(lifetime=timedelta(seconds=2))
    with follow(web_process, additional_headers={"Authorization": f"Bearer {token}"}) as stream:
        assert receive(stream)["type"] == "hello"
        assert close_code(stream) == 4401


def test_a_client_that_does_not_read_skips_and_delays_nobody(
    web_process: WebProcess, bitcoin: Instrument, redis_client: redis.Redis
) -> None:
    def padded(number: int) -> dict[str, Any]:
        """A value with so much in it that the buffers of a socket hold only a few."""
        return book_value(sequence=number, reason=f"{number:09}" * 100_000)

    store(redis_client, padded(0))
    slow_socket = socket.create_connection(("127.0.0.1", web_process.port))
    with (
        follow(web_process, sock=slow_socket, max_queue=1, compression=None) as slow,
        follow(web_process, compression=None) as fast,
    ):
        receive(slow)
        seen = 0
        for number in range(1, 25):
            store(redis_client, padded(number))
            seen = wait_for(fast, lambda books, n=number: books["binance"]["sequence"] == n)[
                "exchanges"
            ]["binance"]["sequence"]
        assert seen == 24
        found = [receive(slow)["exchanges"]["binance"]["sequence"]]
        while found[-1] != 24:
            found.append(receive(slow)["exchanges"]["binance"]["sequence"])
    assert found == sorted(set(found))
    assert len(found) < 20
