"""The circuit breaker: when it opens, for how long, and who may try."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from collectors import clock
from collectors.breaker import Breaker, CircuitBroken, open_for_s
from collectors.budget import CallBudget
from collectors.exchange import CircuitOpen, Connection, ProviderError
from collectors.exchanges.binance import read_error
from tests.collectors.providers import Provider, json_answer

FAST = 100.0  # 60 market seconds are 0.6 wall seconds, and the least is a second


@pytest.fixture
def fast_clock() -> Iterator[None]:
    """Market time so fast that a circuit stays open for the least there is: one wall second."""
    before = clock.current()
    now = clock.wall_now()
    clock.configure(
        clock.MarketClock(start=datetime(2025, 3, 3, tzinfo=UTC), anchor=now, speed=FAST)
    )
    yield
    clock.configure(before)


@pytest.fixture
def connect(provider: Provider, redis_client: redis.Redis) -> Callable[..., Connection]:
    """Makes a connection to the test's provider."""

    def make(timeout_s: float = 5.0, name: str = "binance") -> Connection:
        return Connection(
            provider=name,
            base_url=provider.url,
            budget=CallBudget(redis_client),
            timeout_s=timeout_s,
            read_error=read_error,
            retry_pause_s=0.01,
        )

    return make


def ask(connection: Connection, times: int = 1) -> list[str]:
    """The names of the errors that so many calls end in, "ok" where there is none."""
    ends = []
    for _ in range(times):
        try:
            connection.get("/x", {}, into=list[int])
            ends.append("ok")
        except ProviderError as error:
            ends.append(type(error).__name__)
    return ends


def sent(provider: Provider) -> int:
    return len(provider.requests)


@pytest.mark.parametrize("body", [json_answer({}, 500), (200, {}, b"<html>")])
def test_five_failures_in_a_row_open_it_for_all_connections(
    provider: Provider,
    connect: Callable[..., Connection],
    redis_client: redis.Redis,
    body: tuple[int, dict[str, str], bytes],
) -> None:
    provider.routes["/x"] = lambda _: body
    ends = ask(connect(), 2)
    assert ends[0] in ("ServerError", "MalformedPayload")
    assert ends[1] == "CircuitOpen"
    assert sent(provider) == 5
    assert ask(connect(), 3) == ["CircuitOpen"] * 3
    assert sent(provider) == 5
    assert CallBudget(redis_client).used("binance") == 5
    assert ask(connect(name="bybit")) == [ends[0]]
    with pytest.raises(CircuitOpen) as caught:
        connect().get("/x", {}, into=list[int])
    assert 55 < caught.value.retry_after <= 60


def test_what_shows_that_the_provider_works_is_no_failure(
    provider: Provider, connect: Callable[..., Connection]
) -> None:
    refused = json_answer({"code": -1121, "msg": "Invalid symbol."}, 400)
    limited = json_answer({"code": -1003, "msg": "Too many"}, 429, Retry_After="0.01")
    for answer in (refused, limited):
        provider.routes["/x"] = lambda _, answer=answer: answer
        assert not {"CircuitOpen"} & set(ask(connect(), 6))


def test_a_success_between_failures_begins_the_count_anew(
    provider: Provider, connect: Callable[..., Connection]
) -> None:
    broken, good = json_answer({}, 500), json_answer([1])
    answers = iter([broken, broken, broken, good] * 5)
    provider.routes["/x"] = lambda _: next(answers)
    assert ask(connect(), 10) == ["ServerError", "ok"] * 5


def test_open_for_sixty_seconds_of_market_time_and_a_second_at_least() -> None:
    before = clock.current()
    try:
        for speed, expected in ((1.0, 60.0), (10.0, 6.0), (3600.0, 1.0)):
            now = clock.wall_now()
            clock.configure(clock.MarketClock(start=now, anchor=now, speed=speed))
            assert open_for_s() == expected
    finally:
        clock.configure(before)


def test_one_call_tries_while_the_others_wait(
    provider: Provider, connect: Callable[..., Connection], fast_clock: None
) -> None:
    provider.routes["/x"] = lambda _: json_answer({}, 500)
    ask(connect(), 2)
    assert ask(connect()) == ["CircuitOpen"]
    time.sleep(1.05)
    before = sent(provider)

    def slow(_: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.5)
        return json_answer([1])

    provider.routes["/x"] = slow
    ends: list[str] = []
    threads = [threading.Thread(target=lambda: ends.extend(ask(connect()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["CircuitOpen"] * 7 + ["ok"]
    assert sent(provider) == before + 1
    provider.routes["/x"] = lambda _: json_answer([1])
    assert ask(connect(), 2) == ["ok", "ok"]


def test_a_trial_that_fails_keeps_it_open_as_long_again(
    provider: Provider, connect: Callable[..., Connection], fast_clock: None
) -> None:
    provider.routes["/x"] = lambda _: json_answer({}, 500)
    ask(connect(), 2)
    time.sleep(1.05)
    before = sent(provider)
    assert ask(connect(), 3) == ["CircuitOpen"] * 3
    assert sent(provider) == before + 1
    time.sleep(1.05)
    provider.routes["/x"] = lambda _: json_answer([1])
    assert ask(connect(), 2) == ["ok", "ok"]
    # Closed again, it counts from nothing.
    provider.routes["/x"] = lambda _: json_answer({}, 500)
    assert ask(connect()) == ["ServerError"]


def _ask_once(url: str, redis_url: str, start: float, speed: float, done: object) -> None:
    now = datetime.fromtimestamp(start, UTC)
    clock.configure(clock.MarketClock(start=now, anchor=now, speed=speed))
    connection = Connection(
        provider="binance",
        base_url=url,
        budget=CallBudget(redis.Redis.from_url(redis_url)),
        timeout_s=5,
        read_error=read_error,
    )
    done.put(ask(connection, 2))  # type: ignore[attr-defined]


@pytest.mark.timeout(150)
def test_processes_share_it(
    provider: Provider, connect: Callable[..., Connection], settings: object
) -> None:
    provider.routes["/x"] = lambda _: json_answer({}, 500)
    ask(connect(), 2)
    before = sent(provider)
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    arguments = (provider.url, settings.REDIS_URL, time.time(), 1.0, done)  # type: ignore[attr-defined]
    children = [context.Process(target=_ask_once, args=arguments) for _ in range(2)]
    for child in children:
        child.start()
    ends = [done.get(timeout=120) for _ in children]
    for child in children:
        child.join()
    assert ends == [["CircuitOpen"] * 2] * 2
    assert sent(provider) == before


def test_a_trial_whose_process_dies_is_taken_over(
    redis_client: redis.Redis, fast_clock: None
) -> None:
    def breaker() -> Breaker:
        return Breaker("fred", redis_client, is_failure=lambda error: True, trial_s=0.3)

    for _ in range(5):
        first = breaker()
        with pytest.raises(OSError), first.passage():
            first.judge(_fail)
    time.sleep(1.05)
    lost = breaker().passage()
    lost.__enter__()  # and never ends
    with pytest.raises(CircuitBroken) as caught, breaker().passage():
        pass
    assert 0 < caught.value.retry_after <= 0.3
    time.sleep(0.35)
    taker = breaker()
    with taker.passage():
        assert taker.judge(lambda: 7) == 7
    with breaker().passage():
        pass
    lost.__exit__(None, None, None)


def test_without_redis_calls_go_on(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = redis.Redis(host="127.0.0.1", port=9, retry=Retry(NoBackoff(), 0))
    breaker = Breaker("fred", nowhere, is_failure=lambda error: True, trial_s=1)
    for _ in range(7):
        with pytest.raises(OSError), breaker.passage():
            breaker.judge(_fail)
        with breaker.passage():
            assert breaker.judge(lambda: 7) == 7
    assert sum("breaker_without_redis" in line for line in caplog.messages) == 1


def _fail() -> None:
    raise OSError
