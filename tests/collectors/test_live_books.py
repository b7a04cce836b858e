"""Live books over HTTP: what the stream wrote is served, and what may be wrong never is."""

import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import redis
import structlog
from rest_framework.test import APIClient

from collectors import clock, selectors
from collectors.models import Instrument
from collectors.selectors import live
from tests.collectors.livebooks import book_value, store, withheld_value
from tests.factories import make_user

pytestmark = pytest.mark.django_db
ADDRESS = "/api/v1/books/binance/BTCUSDT/"


@pytest.fixture
def viewer(bitcoin: Instrument, market_now: Any) -> APIClient:
    client = APIClient()
    client.force_authenticate(make_user("viewer", role="viewer"))
    return client


def test_a_book_is_served_with_decimals_as_strings(
    viewer: APIClient, redis_client: redis.Redis
) -> None:
    depths = {"10": [150_000.00000000003, 149_000.5], "50": None}
    store(redis_client, book_value(depth_bps=depths))
    book = viewer.get(ADDRESS).json()
    assert (book["instrument"], book["exchange"], book["symbol"]) == (
        "bitcoin", "binance", "BTCUSDT",
    )  # fmt: skip
    assert (book["is_synced"], book["reason"], book["sequence"]) == (True, "", 17)
    assert (book["best_bid"], book["best_ask"]) == ("50000", "50000.1")
    assert book["ask_quantity"] == "0.00002"
    assert (book["mid_price"], book["spread_bps"], book["imbalance"]) == ("50000.05", 0.02, 0.25)
    assert book["depth_bps"] == {"10": ["150000", "149000.5"], "50": None}
    assert len(book["depth"]["bids"]) == len(book["depth"]["asks"]) == 20
    assert book["depth"]["bids"][:2] == [["50000", "1.5"], ["49999.9", "2.5"]]
    assert book["depth"]["asks"][1] == ["50000.2", "1.00002"]
    assert 0 <= book["age_s"] < 5
    assert book["event_time"].startswith("2025-03-03T") and book["event_time"].endswith("Z")
    assert (book["health"]["gaps"], book["health"]["withheld_s"]) == (2, 1.5)


@pytest.mark.parametrize(("levels", "served"), [("1", 1), ("50", 50)])
def test_levels_are_what_is_asked_for(
    viewer: APIClient, redis_client: redis.Redis, levels: str, served: int
) -> None:
    store(redis_client, book_value())
    depth = viewer.get(ADDRESS, {"levels": levels}).json()["depth"]
    assert (len(depth["bids"]), len(depth["asks"])) == (served, served)


@pytest.mark.parametrize("levels", ["0", "51", "many", "-1", "1e9", "9" * 5000])
def test_a_wrong_level_count_names_its_field(viewer: APIClient, levels: str) -> None:
    answer = viewer.get(ADDRESS, {"levels": levels})
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == ["levels"]


def test_the_cost_of_a_quantity_is_told_for_both_sides(
    viewer: APIClient, redis_client: redis.Redis
) -> None:
    bids, asks = [[99.0, 1.0], [98.0, 1.0]], [[101.0, 1.0], [103.0, 3.0]]
    tops = {"best_bid": 99.0, "best_ask": 101.0, "mid_price": 100.0}
    store(redis_client, book_value(bids=bids, asks=asks, **tops))
    assert viewer.get(ADDRESS).json()["cost"] is None
    # One level is served, but all that are known count.
    cost = viewer.get(ADDRESS, {"quantity": "2", "levels": 1}).json()["cost"]
    assert cost == {
        "quantity": "2",
        "buy": {"average_price": "102", "slippage_bps": 200.0},
        "sell": {"average_price": "98.5", "slippage_bps": 150.0},
    }
    cost = viewer.get(ADDRESS, {"quantity": "2.5"}).json()["cost"]
    assert (cost["buy"]["average_price"], cost["sell"]) == ("102.2", None)
    store(redis_client, withheld_value())
    cost = viewer.get(ADDRESS, {"quantity": "0.1"}).json()["cost"]
    assert cost == {"quantity": "0.1", "buy": None, "sell": None}


@pytest.mark.parametrize("quantity", ["0", "-1", "nan", "inf", "x", "1e40", "1e-13"])
def test_a_wrong_quantity_names_its_field(viewer: APIClient, quantity: str) -> None:
    answer = viewer.get(ADDRESS, {"quantity": quantity})
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == ["quantity"]


@pytest.mark.parametrize(
    "path", ["kraken/BTCUSDT", "binance/NOSUCH", "binance/btcusdt", "binance/bitcoin", "x/%00"]
)
def test_what_is_not_known_is_not_found(viewer: APIClient, path: str) -> None:
    answer = viewer.get(f"/api/v1/books/{path}/")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_a_symbol_that_is_not_streamed_says_so(viewer: APIClient) -> None:
    book = viewer.get(ADDRESS).json()
    assert (book["is_synced"], book["reason"]) == (False, "not streamed")
    assert (book["best_bid"], book["received_at"], book["age_s"]) == (None, None, None)
    assert book["depth"] == {"bids": [], "asks": []}


def test_a_withheld_book_has_its_best_prices_and_no_levels(
    viewer: APIClient, redis_client: redis.Redis
) -> None:
    store(redis_client, withheld_value() | {"bids": [[1.0, 1.0]]})
    book = viewer.get(ADDRESS).json()
    assert (book["is_synced"], book["reason"]) == (False, "gap in sequence")
    assert (book["best_bid"], book["depth"]["bids"]) == ("50000", [])


def test_a_withheld_book_that_went_silent_keeps_its_reason(
    viewer: APIClient, redis_client: redis.Redis
) -> None:
    before = clock.wall_now() - timedelta(minutes=5)
    store(redis_client, withheld_value() | {"received_at": before})
    book = viewer.get(ADDRESS).json()
    assert book["reason"] == "gap in sequence; nothing new for more than 30 s"
    assert book["best_bid"] is None


def test_a_book_that_went_silent_tells_no_old_price(
    viewer: APIClient, redis_client: redis.Redis
) -> None:
    before = clock.wall_now() - timedelta(minutes=5)
    store(redis_client, book_value(received_at=before))
    book = viewer.get(ADDRESS).json()
    assert (book["is_synced"], book["best_bid"], book["mid_price"]) == (False, None, None)
    assert book["reason"] == "nothing new for more than 30 s"
    assert book["depth"] == {"bids": [], "asks": []}
    assert 299 < book["age_s"] < 310
    assert book["health"]["gaps"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"best_bid": 0},
        {"best_bid": None},
        {"ask_quantity": -1},
        {"bids": [[1.0]]},
        {"symbol": "ETHUSDT"},
        {"received_at": "yesterday"},
        {"received_at": "2025-03-03T10:00:00"},
        {"event_time": "2025-03-03T10:00:00"},
        {"is_synced": "yes"},
        {"health": None},
    ],
)
def test_a_value_that_cannot_be_true_is_not_served(
    viewer: APIClient, redis_client: redis.Redis, change: dict[str, Any]
) -> None:
    value = msgspec.json.encode(book_value() | change)
    redis_client.set("orderbook:binance:BTCUSDT", value)
    book = viewer.get(ADDRESS).json()
    assert (book["is_synced"], book["best_bid"]) == (False, None)
    assert book["reason"] == "the value in Redis cannot be read"


def test_the_best_price_is_read_from_a_full_value(redis_client: redis.Redis) -> None:
    store(redis_client, book_value())
    quote = selectors.latest_quote(exchange="binance", symbol="BTCUSDT")
    assert quote is not None
    assert (quote.best_bid, quote.ask_quantity, quote.sequence) == (50_000.0, 0.00002, 17)


def test_a_book_without_any_price_is_no_quote_and_no_fault(redis_client: redis.Redis) -> None:
    value = {"exchange": "binance", "symbol": "BTCUSDT", "reason": "not connected"}
    value |= dict.fromkeys(("best_bid", "bid_quantity", "best_ask", "ask_quantity"))
    store(redis_client, value)
    with structlog.testing.capture_logs() as logged:
        assert selectors.latest_quote(exchange="binance", symbol="BTCUSDT") is None
    assert logged == []


def test_the_list_has_every_streamed_book(viewer: APIClient, redis_client: redis.Redis) -> None:
    store(redis_client, book_value(), withheld_value("bybit", "ETHUSDT"))
    books = viewer.get("/api/v1/books/").json()
    found = {(book["exchange"], book["symbol"]): book for book in books}
    assert len(found) == len(books) == 24
    assert found["binance", "BTCUSDT"]["is_synced"] is True
    assert found["bybit", "ETHUSDT"]["reason"] == "gap in sequence"
    assert found["bybit", "BTCUSDT"]["reason"] == "not streamed"
    assert "depth" not in books[0]


def test_the_list_follows_what_is_collected(viewer: APIClient, bitcoin: Instrument) -> None:
    def listed(**query: str) -> list[tuple[str, str]]:
        rows = viewer.get("/api/v1/books/", query).json()
        return [(row["exchange"], row["instrument"]) for row in rows]

    assert listed(instrument="bitcoin") == [("binance", "bitcoin"), ("bybit", "bitcoin")]
    assert listed(instrument="bitcoin", exchange="bybit") == [("bybit", "bitcoin")]
    bitcoin.source_chain = ["bybit", "coingecko"]
    bitcoin.save()
    assert listed(instrument="bitcoin") == [("bybit", "bitcoin")]
    bitcoin.is_enabled = False
    bitcoin.save()
    assert listed(instrument="bitcoin") == []


def test_books_need_a_viewer(viewer: APIClient) -> None:
    for path in (ADDRESS, "/api/v1/books/"):
        assert APIClient().get(path).status_code == 401
        nobody = APIClient()
        nobody.force_authenticate(make_user(f"nobody{len(path)}", role=None))
        assert nobody.get(path).status_code == 403


@pytest.fixture
def lost_redis(settings: Any) -> Iterator[None]:
    """An address where no Redis listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings.REDIS_URL = f"redis://127.0.0.1:{unused.getsockname()[1]}/0"
        live.redis_client.cache_clear()
        yield
    live.redis_client.cache_clear()
    live._quote_store = live._QuoteStore()


@pytest.mark.parametrize("ask", [lambda client: client.get("/api/v1/books/").json()[0],
                                 lambda client: client.get(ADDRESS).json()])  # fmt: skip
def test_without_redis_the_books_say_so(
    viewer: APIClient, lost_redis: None, ask: Callable[[APIClient], Any]
) -> None:
    book = ask(viewer)
    assert (book["is_synced"], book["reason"]) == (False, "Redis does not answer")
