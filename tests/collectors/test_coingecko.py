"""CoinGecko's calls: pages, ids that vanish, bar ends, and the door that a plan goes through."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
import redis

from collectors.budget import CallBudget
from collectors.coingecko import CoinGecko, Sample, vanished
from collectors.coingecko.plans import PRO_URL, PUBLIC_URL, Door, free_door, plan_door
from collectors.exchange import (
    KeyRefused,
    MalformedPayload,
    OutsidePlan,
    RateLimited,
    RequestRefused,
    UnknownSymbol,
)
from collectors.marketdata import to_ms
from tests.collectors.providers import NOW, Provider, json_answer

Open = Callable[..., CoinGecko]


@pytest.fixture
def gecko(provider: Provider, redis_client: redis.Redis) -> Open:
    """Makes a client of the test's provider."""

    def make(plan: str = "none", api_key: str = "") -> CoinGecko:
        return CoinGecko(
            base_url=provider.url,
            budget=CallBudget(redis_client),
            timeout_s=2,
            plan=plan,
            api_key=api_key,
        )

    return make


def market_row(coin_id: str, **changed: object) -> dict[str, object]:
    row: dict[str, object] = {
        "id": coin_id,
        "symbol": coin_id[:3],
        "name": coin_id.title(),
        "image": "https://example.org/x.png",
        "current_price": 2,
        "market_cap": 1500000000000,
        "market_cap_rank": 1,
        "total_volume": 10,
        "circulating_supply": 19000000.0,
        "total_supply": None,
        "max_supply": None,
        "last_updated": "2025-03-03T10:29:10.500Z",
    }
    return row | changed


def serve_markets(provider: Provider, known: list[str]) -> None:
    def answer(params: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        ids = params["ids"].split(",") if "ids" in params else known
        size, page = int(params["per_page"]), int(params["page"])
        rows = [market_row(coin_id) for coin_id in known if coin_id in ids]
        return json_answer(rows[(page - 1) * size : page * size])

    provider.routes["/coins/markets"] = answer


def test_a_market_row_keeps_what_is_known(provider: Provider, gecko: Open) -> None:
    serve_markets(provider, ["bitcoin"])
    (row,) = gecko().fetch_markets(["bitcoin"])
    assert (row.id, row.symbol, row.current_price, row.market_cap_rank) == ("bitcoin", "bit", 2, 1)
    assert (row.circulating_supply, row.total_supply, row.max_supply) == (19000000.0, None, None)
    assert row.last_updated is not None
    assert row.last_updated == NOW - timedelta(seconds=49.5)


def test_a_price_may_be_null(provider: Provider, gecko: Open) -> None:
    provider.routes["/coins/markets"] = lambda _: json_answer(
        [market_row("a", current_price=None, market_cap_rank=None, last_updated=None)]
    )
    (row,) = gecko().fetch_markets(["a"])
    assert (row.current_price, row.market_cap_rank, row.last_updated) == (None, None, None)


@pytest.mark.parametrize(
    "changed",
    [
        *({"current_price": price} for price in ([], "dear")),
        {"last_updated": "yesterday"},
        {"last_updated": "2025-03-03T10:29:10"},
        {"market_cap_rank": 1.5},
        {"id": None},
    ],
)
def test_a_market_row_that_cannot_be_is_malformed(
    provider: Provider, gecko: Open, changed: dict[str, object]
) -> None:
    provider.routes["/coins/markets"] = lambda _: json_answer([market_row("a") | changed])
    with pytest.raises(MalformedPayload):
        gecko().fetch_markets(["a"])


def test_ids_are_asked_for_without_spaces_in_pages(provider: Provider, gecko: Open) -> None:
    coins = [f"coin-{number}" for number in range(251)]
    serve_markets(provider, coins)
    rows = gecko().fetch_markets([f" {coin}" for coin in coins] + ["coin-7", "gone"])
    assert sorted(row.id for row in rows) == sorted(coins)
    asked = [params["ids"].split(",") for _, params in provider.requests]
    assert [len(ids) for ids in asked] == [250, 2]
    assert not any(" " in name for ids in asked for name in ids)
    assert vanished([*coins, "gone"], rows) == ["gone"]
    for impossible in ("", " ", "a,b", "a b"):
        with pytest.raises(UnknownSymbol):
            gecko().fetch_markets(["coin-1", impossible])
    assert len(provider.requests) == 2


@pytest.mark.parametrize(("count", "calls"), [(3, 1), (250, 1), (251, 2), (600, 2)])
def test_the_top_comes_in_pages(provider: Provider, gecko: Open, count: int, calls: int) -> None:
    serve_markets(provider, [f"coin-{number}" for number in range(260)])
    rows = gecko().fetch_top(count)
    assert [row.id for row in rows] == [f"coin-{number}" for number in range(min(count, 260))]
    assert len(provider.requests) == calls


def test_ohlc_bars_are_stamped_with_their_end(
    provider: Provider, gecko: Open, market_now: datetime
) -> None:
    last_end = market_now - timedelta(minutes=30)
    ends = [last_end - timedelta(minutes=30), last_end, market_now + timedelta(minutes=30)]
    provider.routes["/coins/bitcoin/ohlc"] = lambda _: json_answer(
        [[to_ms(end), 1, 3.5, 1, 2] for end in ends]
    )
    bars = gecko().fetch_ohlc("bitcoin", 1)
    assert [bar.open_time for bar in bars] == [end - timedelta(minutes=30) for end in ends[:2]]
    assert (bars[0].open, bars[0].high, bars[0].close) == (1.0, 3.5, 2.0)
    assert all(bar.volume is None and bar.is_sampled for bar in bars)
    assert [bar.open_time for bar in gecko().fetch_ohlc("bitcoin", 30)] == [
        end - timedelta(hours=4) for end in ends[:2]
    ]


def test_the_last_days_are_samples(provider: Provider, gecko: Open) -> None:
    provider.routes["/coins/tether/market_chart"] = lambda _: json_answer(
        {"prices": [[to_ms(NOW), 1], [to_ms(NOW) + 1, None]], "total_volumes": [[1, 2]]}
    )
    assert gecko().fetch_recent_samples("tether", 1) == [
        Sample(to_ms(NOW), 1.0),
        Sample(to_ms(NOW) + 1, None),
    ]
    assert provider.requests[0][1] == {"vs_currency": "usd", "days": "1"}


KEY_PROBLEMS = [
    (401, {"status": {"error_code": 10002, "error_message": "API Key Missing"}}),
    (400, {"status": {"error_code": 10010, "error_message": "Invalid API Key"}}),
    (403, {"error": "Forbidden"}),
]


@pytest.mark.parametrize(("status", "body"), KEY_PROBLEMS)
def test_the_free_host_answers_when_pro_refuses(
    provider: Provider, gecko: Open, status: int, body: dict[str, object]
) -> None:
    serve_markets(provider, ["bitcoin"])
    served = provider.routes["/coins/markets"]
    refusals = iter([json_answer(body, status)])
    provider.routes["/coins/markets"] = lambda params: next(refusals, None) or served(params)
    client = gecko("pro", "secret")
    assert [row.id for row in client.fetch_top(1)] == ["bitcoin"]
    assert [row.id for row in client.fetch_top(1)] == ["bitcoin"]
    shown = ["x-cg-pro-api-key" in {name.lower() for name in sent} for sent in provider.headers]
    assert shown == [True, False, False]
    assert "secret" not in repr(provider.headers[1:])


@pytest.mark.parametrize("plan", ["none", "demo"])
def test_without_pro_a_refused_key_is_said_so(provider: Provider, gecko: Open, plan: str) -> None:
    provider.routes["/coins/markets"] = lambda _: json_answer(KEY_PROBLEMS[1][1], 401)
    with pytest.raises(KeyRefused):
        gecko(plan, "secret").fetch_top(1)
    assert len(provider.requests) == 1


def test_doors_of_the_plans() -> None:
    pro = plan_door(PUBLIC_URL, "pro", "k")
    assert pro == Door(PRO_URL, {"x-cg-pro-api-key": "k"})
    assert free_door(pro.base_url) == Door(PUBLIC_URL)
    assert plan_door(PUBLIC_URL, "demo", "k") == Door(PUBLIC_URL, {"x-cg-demo-api-key": "k"})
    assert plan_door(PUBLIC_URL, "none", "") == Door(PUBLIC_URL)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"status": {"error_code": 429, "error_message": "slow down"}}, RateLimited),
        ({"error": {"status": {"error_code": 10012, "error_message": "days"}}}, OutsidePlan),
        ({"error": {"status": {"error_code": 10005, "error_message": "plan"}}}, OutsidePlan),
        ({"error_code": 10002, "error": "API Key Missing"}, KeyRefused),
        ({"error": "coin not found", "status": 404}, UnknownSymbol),
        ({"error": "something"}, RequestRefused),
    ],
)
def test_an_error_inside_a_200_is_an_error(
    provider: Provider, gecko: Open, body: object, expected: type[Exception]
) -> None:
    provider.routes["/coins/markets"] = lambda _: json_answer(body, Retry_After="30")
    with pytest.raises(expected):
        gecko().fetch_top(1)


def test_a_key_is_not_in_the_text_of_a_door() -> None:
    assert "secret" not in repr(plan_door(PUBLIC_URL, "pro", "secret"))
