"""One request: errors are classified, retried only when it can help, counted, bounded."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
import redis
import requests

from collectors import clock
from collectors.budget import BudgetExhausted, CallBudget
from collectors.coingecko import CoinGecko
from collectors.coingecko import read_error as coingecko_error
from collectors.exchange import (
    Banned,
    Connection,
    ConnectionFailed,
    GeographicBlock,
    MalformedPayload,
    OutsidePlan,
    ProviderError,
    RateLimited,
    Redirected,
    RequestRefused,
    RequestTimedOut,
    ServerError,
    UnknownSymbol,
)
from collectors.exchanges.binance import read_error as binance_error
from collectors.exchanges.bybit import read_error as bybit_error
from collectors.fred import read_error as fred_error
from collectors.models import ProviderCallMinute
from collectors.services.calls import ProviderCallRecords
from tests.collectors.providers import Provider, json_answer
from tests.collectors.redis_server import RestartableRedis

AT = datetime(2025, 3, 3, 9, tzinfo=UTC)
Connect = Callable[..., Connection]


@pytest.fixture
def connect(provider: Provider, redis_client: redis.Redis) -> Connect:
    """Makes a connection to the test's provider."""

    def make(url: str = provider.url, timeout_s: float = 2.0) -> Connection:
        return Connection(
            provider="binance",
            base_url=url,
            budget=CallBudget(redis_client),
            timeout_s=timeout_s,
            read_error=binance_error,
        )

    return make


@pytest.mark.django_db
def test_a_failure_that_passes_is_retried_and_counted(
    provider: Provider, redis_client: redis.Redis
) -> None:
    connection = Connection(
        provider="binance",
        base_url=provider.url,
        budget=CallBudget(redis_client, records=ProviderCallRecords()),
        timeout_s=2,
        read_error=binance_error,
    )
    answers = iter([json_answer({}, 500), json_answer([1, 2])])
    provider.routes["/x"] = lambda _: next(answers)
    assert connection.get("/x", {}, into=list[int], weight=3) == [1, 2]
    rows = ProviderCallMinute.objects.filter(provider="binance", endpoint="/x")
    assert sum(row.calls for row in rows) == 2
    assert sum(row.errors for row in rows) == 1
    assert sum(row.weight for row in rows) == 6
    assert all(row.response_ms_total > 0 for row in rows)


def test_a_permanent_failure_is_asked_once(provider: Provider, connect: Connect) -> None:
    provider.routes["/x"] = lambda _: json_answer({"code": -1121, "msg": "Invalid symbol."}, 400)
    with pytest.raises(UnknownSymbol):
        connect().get("/x", {}, into=list[int])
    assert len(provider.requests) == 1


def test_a_short_retry_after_is_obeyed_and_a_long_one_blocks(
    provider: Provider, connect: Connect, redis_client: redis.Redis
) -> None:
    answers = iter([json_answer({}, 429, Retry_After="0.05"), json_answer([1])])
    provider.routes["/x"] = lambda _: next(answers)
    assert connect().get("/x", {}, into=list[int]) == [1]
    provider.routes["/x"] = lambda _: json_answer({}, 429, Retry_After="60")
    with pytest.raises(RateLimited) as caught:
        connect().get("/x", {}, into=list[int])
    assert caught.value.retry_after == 60
    before = len(provider.requests)
    budget = CallBudget(redis_client, longest_wait_s=0.0)
    blocked = Connection(
        provider="binance",
        base_url=provider.url,
        budget=budget,
        timeout_s=1,
        read_error=binance_error,
    )
    with pytest.raises(RateLimited):
        blocked.get("/x", {}, into=list[int])
    assert len(provider.requests) == before


@pytest.mark.parametrize("said", ["nan", "inf", "-1", "soon"])
def test_a_retry_after_that_is_no_time_is_ignored(
    provider: Provider, connect: Connect, said: str
) -> None:
    answers = iter([json_answer({}, 429, Retry_After=said), json_answer([1])])
    provider.routes["/x"] = lambda _: next(answers)
    assert connect().get("/x", {}, into=list[int]) == [1]


@pytest.mark.parametrize(
    "body", [b"", b"[" * 100_000, b"{", b"<html>", b'{"a": 1}', b'["x"]', b"\xff\xfe"]
)
def test_a_payload_of_another_shape_is_malformed(
    provider: Provider, connect: Connect, body: bytes
) -> None:
    provider.routes["/x"] = lambda _: (200, {}, body)
    with pytest.raises(MalformedPayload):
        connect().get("/x", {}, into=list[int])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_refused(provider: Provider, connect: Connect, status: int) -> None:
    target = "https://elsewhere.example/y?key=secret"
    provider.routes["/x"] = lambda _: json_answer({}, status, Location=target)
    with pytest.raises(Redirected, match=r"to elsewhere\.example$"):
        connect().get("/x", {}, into=list[int])
    assert provider.paths() == ["/x"]


def test_nobody_there(connect: Connect) -> None:
    with pytest.raises(ConnectionFailed):
        connect("http://127.0.0.1:9").get("/x", {}, into=list[int])


def test_no_answer_in_time(provider: Provider, connect: Connect) -> None:
    def slow(_: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.3)
        return json_answer([])

    provider.routes["/slow"] = slow
    with pytest.raises(RequestTimedOut):
        connect(timeout_s=0.1).get("/slow", {}, into=list[int])


def test_the_providers_own_count_is_believed(
    provider: Provider, connect: Connect, redis_client: redis.Redis, market_now: datetime
) -> None:
    clock.configure(
        clock.MarketClock(start=market_now + timedelta(seconds=30), anchor=clock.wall_now())
    )
    provider.routes["/x"] = lambda _: json_answer([], X_MBX_USED_WEIGHT_1M="777")
    connect().get("/x", {}, into=list[int])
    budget = CallBudget(redis_client, longest_wait_s=0.0)
    budget.reserve("binance", "/x", 2400 - 777)
    with pytest.raises(BudgetExhausted):
        budget.reserve("binance", "/x", 1)


def test_an_answer_counts_though_redis_is_lost_while_it_comes(
    provider: Provider, own_redis: RestartableRedis
) -> None:
    def route(_: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        own_redis.kill()
        return json_answer([1], X_MBX_USED_WEIGHT_1M="7")

    provider.routes["/x"] = route
    connection = Connection(
        provider="binance",
        base_url=provider.url,
        budget=CallBudget(own_redis.client),
        timeout_s=1,
        read_error=binance_error,
    )
    assert connection.get("/x", {}, into=list[int]) == [1]
    with pytest.raises(ConnectionFailed):
        connection.get("/x", {}, into=list[int])
    assert len(provider.requests) == 1  # without a budget nothing is sent


@pytest.mark.parametrize(
    ("read", "status", "body", "expected"),
    [
        (binance_error, 400, b'{"code":-1121,"msg":"Invalid symbol."}', UnknownSymbol),
        (binance_error, 429, b'{"code":-1003,"msg":"Too many requests"}', RateLimited),
        (binance_error, 418, b'{"code":-1003,"msg":"banned until 4102444800000."}', Banned),
        (binance_error, 451, b'{"code":0,"msg":"restricted location"}', GeographicBlock),
        (binance_error, 503, b"<html>", ServerError),
        (binance_error, 400, b'{"code":-1102,"msg":"mandatory"}', RequestRefused),
        (bybit_error, 200, b'{"retCode":10001,"retMsg":"Not supported symbols"}', UnknownSymbol),
        (bybit_error, 200, b'{"retCode":10001,"retMsg":"params error"}', RequestRefused),
        (bybit_error, 200, b'{"retCode":10006,"retMsg":"Too many visits."}', RateLimited),
        (bybit_error, 200, b'{"retCode":10016,"retMsg":"Server error."}', ServerError),
        (bybit_error, 200, b"[]", MalformedPayload),
        (bybit_error, 403, b"", RequestRefused),
        (coingecko_error, 404, b'{"error":"coin not found"}', UnknownSymbol),
        (coingecko_error, 422, b'{"error":"Missing parameter vs_currency"}', RequestRefused),
        (coingecko_error, 500, b'{"status":500,"error":"Internal"}', ServerError),
        (
            coingecko_error,
            429,
            b'{"status":{"error_code":429,"error_message":"slow down"}}',
            RateLimited,
        ),
        (
            coingecko_error,
            401,
            b'{"error":{"status":{"error_code":10012,"error_message":"365 days"}}}',
            OutsidePlan,
        ),
        (coingecko_error, 502, b"null", ServerError),
        (
            fred_error,
            400,
            b'{"error_code":400,"error_message":"Bad Request.  The series does not exist."}',
            UnknownSymbol,
        ),
        (
            fred_error,
            400,
            b'{"error_code":400,"error_message":"Bad Request. Variable api_key is not set."}',
            RequestRefused,
        ),
        (fred_error, 429, b"", RateLimited),
    ],
)
def test_every_error_shape_is_understood(
    read: Callable[..., ProviderError | None],
    status: int,
    body: bytes,
    expected: type[ProviderError],
) -> None:
    error = read(status, {}, body)
    assert type(error) is expected
    if isinstance(error, Banned):
        assert error.retry_after is not None
        assert error.retry_after > 1e6


@pytest.mark.parametrize(
    ("plan", "url", "host"),
    [
        ("pro", "https://api.coingecko.com/api/v3", "pro-api.coingecko.com"),
        ("demo", "https://api.coingecko.com/api/v3", "api.coingecko.com"),
        ("pro", "https://proxy.example/api/v3", "proxy.example"),
    ],
)
def test_the_pro_plan_has_a_host_of_its_own(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, plan: str, url: str, host: str
) -> None:
    asked: list[str] = []

    def get(_: requests.Session, address: str, **__: object) -> None:
        asked.append(address)
        raise requests.exceptions.InvalidURL  # no test reaches a real provider

    monkeypatch.setattr(requests.Session, "get", get)
    monkeypatch.setattr("collectors.exchange.ATTEMPTS", 1)
    source = CoinGecko(
        base_url=url, budget=CallBudget(redis_client), timeout_s=1, plan=plan, api_key="secret"
    )
    with pytest.raises(ConnectionFailed):
        source.fetch_candles("tether", "1h", AT, AT + timedelta(hours=1))
    assert [urlsplit(address).hostname for address in asked] == [host]


@pytest.mark.parametrize(
    ("plan", "header"),
    [("demo", "x-cg-demo-api-key"), ("pro", "x-cg-pro-api-key"), ("none", "")],
)
def test_the_coingecko_key_goes_into_the_plans_header(
    provider: Provider, redis_client: redis.Redis, plan: str, header: str
) -> None:
    source = CoinGecko(
        base_url=provider.url,
        budget=CallBudget(redis_client),
        timeout_s=2,
        plan=plan,
        api_key="secret",
    )
    with pytest.raises(ProviderError):
        source.fetch_top(1)
    sent = {name.lower(): text for name, text in provider.headers[0].items()}
    assert ("secret" in sent.values()) is bool(header)
    assert sent.get(header, "secret") == "secret"
