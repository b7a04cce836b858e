"""The call budget, on a real Redis-protocol server."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors import clock
from collectors.budget import (
    BudgetExhausted,
    CallBudget,
    Limit,
    RecordsUnavailable,
    provider_limits,
)
from collectors.marketdata import floor_time
from collectors.models import ProviderCallMinute
from collectors.services.calls import ProviderCallRecords
from tests.collectors.redis_server import RestartableRedis

TEN = {"binance": Limit(10)}
MINUTE = timedelta(minutes=1)


def at(moment: datetime, speed: float = 1.0) -> None:
    """Let it be `moment` now."""
    clock.configure(clock.MarketClock(start=moment, anchor=clock.wall_now(), speed=speed))


def refuses(budget: CallBudget, weight: int = 1, provider: str = "binance") -> bool:
    try:
        budget.reserve(provider, "/x", weight)
    except BudgetExhausted:
        return True
    return False


# -- The minute --------------------------------------------------------------------------------


@st.composite
def calls(draw: st.DrawFn) -> tuple[float, int, float, float, str]:
    """Seconds since the call before, weight, seconds to the answer, the share of them after which
    the call arrives, and how it ends."""
    return (
        draw(st.one_of(st.floats(0, 0.5), st.floats(0, 20))),
        draw(st.integers(1, 10)),
        draw(st.one_of(st.floats(0, 1), st.floats(0, 55))),
        draw(st.sampled_from([0.0, 0.5, 1.0])),
        draw(st.sampled_from(["answered", "answered", "given up", "killed"])),
    )


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(made=st.lists(calls(), min_size=20, max_size=40))
def test_no_minute_of_the_provider_sees_more_than_its_limit(
    redis_client: redis.Redis,
    market_now: datetime,
    made: list[tuple[float, int, float, float, str]],
) -> None:
    """Wherever its minute begins, and however late calls arrive and are answered."""
    redis_client.flushdb()
    budget = CallBudget(redis_client, limits=TEN, longest_wait_s=0.0)
    order = itertools.count()
    answers: list[tuple[datetime, int, Callable[[], None]]] = []
    arrived: list[tuple[datetime, int]] = []
    moment = market_now
    for gap, weight, latency, share, end in made:
        moment += timedelta(seconds=gap)
        while answers and answers[0][0] <= moment:
            due, _, settle = heapq.heappop(answers)
            at(due)
            settle()
        at(moment)
        try:
            reservation = budget.reserve("binance", "/x", weight)
        except BudgetExhausted:
            continue
        answered = reservation.at + timedelta(seconds=latency)
        arrives = reservation.at + timedelta(seconds=latency * share)
        if end == "given up":  # and still on its way
            arrives = answered + timedelta(seconds=1.9)
        if end != "killed":

            def settle(reservation=reservation, end=end) -> None:  # type: ignore[no-untyped-def]
                budget.settle(reservation, failed=end == "given up", response_ms=1)

            heapq.heappush(answers, (answered, next(order), settle))
        arrived.append((arrives, weight))
    assert arrived
    for begin, _ in arrived:
        minute = [weight for moment, weight in arrived if begin <= moment < begin + MINUTE]
        assert sum(minute) <= 10


def test_a_minute_later_all_of_it_is_there_again(
    redis_client: redis.Redis, market_now: datetime
) -> None:
    budget = CallBudget(redis_client, limits=TEN, longest_wait_s=0.0)
    for number in range(3):
        at(market_now + number * timedelta(seconds=60.5))
        budget.settle(budget.reserve("binance", "/x", 10), failed=False, response_ms=1)
        assert refuses(budget)
    at(market_now + timedelta(seconds=150))
    assert refuses(budget)


def test_a_fixed_minutes_edge_gives_nothing(
    redis_client: redis.Redis, market_now: datetime
) -> None:
    at(market_now + timedelta(seconds=59))
    budget = CallBudget(redis_client, limits=TEN, longest_wait_s=0.0)
    budget.settle(budget.reserve("binance", "/x", 10), failed=False, response_ms=1)
    at(market_now + timedelta(seconds=61))
    assert refuses(budget)


def test_an_unanswered_call_keeps_its_weight(
    redis_client: redis.Redis, market_now: datetime
) -> None:
    budget = CallBudget(redis_client, limits=TEN, longest_wait_s=0.0)
    budget.reserve("binance", "/x", 10)
    at(market_now + timedelta(seconds=90))  # it may have arrived a moment ago
    assert refuses(budget)
    at(market_now + timedelta(seconds=125))  # its process is dead
    assert not refuses(budget)


@pytest.mark.parametrize("weight", [0, -1, 11])
def test_a_weight_that_never_fits_is_a_mistake(redis_client: redis.Redis, weight: int) -> None:
    with pytest.raises(ValueError, match="never fits"):
        CallBudget(redis_client, limits=TEN).reserve("binance", "/x", weight)


def test_the_refusal_says_when(redis_client: redis.Redis, market_now: datetime) -> None:
    budget = CallBudget(redis_client, limits=TEN, longest_wait_s=0.0)
    budget.settle(budget.reserve("binance", "/x", 10), failed=False, response_ms=1)
    with pytest.raises(BudgetExhausted, match="binance: this minute is used up") as caught:
        budget.reserve("binance", "/x", 1)
    assert 59 < caught.value.retry_after <= 60.1
    assert timedelta(seconds=60) < caught.value.may_go_at - market_now < timedelta(seconds=62)
    assert caught.value.may_go_at.isoformat(timespec="milliseconds") in str(caught.value)
    at(caught.value.may_go_at + timedelta(milliseconds=1))
    assert not refuses(budget)


def test_a_used_up_minute_is_waited_for(redis_client: redis.Redis, market_now: datetime) -> None:
    at(market_now, speed=120.0)  # a minute in half a second
    budget = CallBudget(redis_client, limits=TEN)
    began = time.monotonic()
    for _ in range(3):
        budget.settle(budget.reserve("binance", "/x", 8), failed=False, response_ms=1)
    assert 1.0 <= time.monotonic() - began < 2.0


def test_the_waiting_are_served_in_their_order_without_polling(
    redis_client: redis.Redis, market_now: datetime
) -> None:
    at(market_now, speed=120.0)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time.sleep(seconds)

    budget = CallBudget(redis_client, limits=TEN, sleep=sleep)
    served: list[str] = []
    until = time.monotonic() + 3.0

    def light() -> None:
        while time.monotonic() < until:
            budget.settle(budget.reserve("binance", "/x", 1), failed=False, response_ms=1)
            served.append("light")

    def heavy() -> None:
        while time.monotonic() < until:
            budget.settle(budget.reserve("binance", "/x", 10), failed=False, response_ms=1)
            served.append("heavy")

    threads = [threading.Thread(target=light) for _ in range(9)] + [threading.Thread(target=heavy)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert served.count("heavy") >= 2  # the crowd does not overtake for ever
    assert served.count("light") >= 10
    assert len(slept) < 6 * len(served)


def test_concurrent_reservations_never_exceed_the_limit(
    redis_client: redis.Redis, market_now: datetime
) -> None:
    budget = CallBudget(redis_client, limits={"bybit": Limit(20)}, longest_wait_s=0.0)
    granted: list[int] = []

    def take() -> None:
        granted.extend(1 for _ in range(10) if not refuses(budget, provider="bybit"))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 20


def test_a_block_holds_for_every_process(redis_client: redis.Redis) -> None:
    CallBudget(redis_client).block("fred", 30)
    CallBudget(redis_client).block("fred", 1)  # the longer one stays
    with pytest.raises(BudgetExhausted, match="stay away") as caught:
        CallBudget(redis_client, longest_wait_s=1.0).reserve("fred", "/x", 1)
    assert 20 < caught.value.retry_after <= 30


@pytest.mark.django_db
def test_a_block_outlives_the_memory_it_is_kept_in(redis_client: redis.Redis) -> None:
    def budget() -> CallBudget:
        return CallBudget(redis_client, records=ProviderCallRecords(), longest_wait_s=0.0)

    budget().block("binance", 600)
    budget().block("binance", 5)
    redis_client.flushdb()
    with pytest.raises(BudgetExhausted, match="stay away") as caught:
        budget().reserve("binance", "/x", 1)
    assert 590 < caught.value.retry_after <= 600
    budget().reserve("bybit", "/x", 1)


# -- What the provider says --------------------------------------------------------------------


def test_the_provider_knows_better(redis_client: redis.Redis, market_now: datetime) -> None:
    at(market_now + timedelta(seconds=20))
    budget = CallBudget(redis_client, limits={"binance": Limit(100)}, longest_wait_s=0.0)
    first = budget.reserve("binance", "/x", 10)
    budget.reconcile(first, 10)
    budget.reconcile(first, 99)
    budget.reconcile(first, 99)
    budget.reserve("binance", "/x", 1)
    assert refuses(budget)


def test_a_count_of_the_minute_before_is_not_believed(
    redis_client: redis.Redis, market_now: datetime
) -> None:
    at(market_now + timedelta(seconds=59))
    budget = CallBudget(redis_client, limits={"binance": Limit(100)}, longest_wait_s=0.0)
    late = budget.reserve("binance", "/x", 1)
    at(market_now + timedelta(seconds=62))
    budget.reconcile(late, 99)
    assert not refuses(budget, 99)


# -- The month ---------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_used_up_month_says_when_the_next_begins(
    redis_client: redis.Redis, market_now: datetime
) -> None:
    budget = CallBudget(
        redis_client,
        limits={"coingecko": Limit(30, 3)},
        records=ProviderCallRecords(),
        longest_wait_s=0.0,
    )
    at(datetime(2025, 3, 1, 0, 0, 1, tzinfo=UTC))
    for day in (0, 9, 18):
        at(datetime(2025, 3, 1 + day, 0, 0, 1, tzinfo=UTC))
        budget.settle(budget.reserve("coingecko", "/x"), failed=False, response_ms=1)
    at(datetime(2025, 3, 31, 23, 0, tzinfo=UTC))
    for _ in range(2):
        with pytest.raises(BudgetExhausted) as caught:
            budget.reserve("coingecko", "/x")
        assert "this month's calls are used up; no call before 2025-04-01T00:00:00" in str(
            caught.value
        )
        assert caught.value.may_go_at == datetime(2025, 4, 1, tzinfo=UTC)
        assert 3590 < caught.value.retry_after <= 3600
        redis_client.flushdb()  # the database remembers the month
    at(datetime(2025, 4, 1, 0, 0, 1, tzinfo=UTC))
    assert not refuses(budget, provider="coingecko")


def test_every_plan_has_its_limits() -> None:
    assert provider_limits(coingecko_plan="none")["coingecko"] == Limit(30, None)
    assert provider_limits(coingecko_plan="demo")["coingecko"] == Limit(30, 10_000)
    pro = provider_limits(coingecko_plan="pro")
    assert (pro["coingecko"], pro["coingecko_free"]) == (Limit(500, 500_000), Limit(30))


# -- What is lost ------------------------------------------------------------------------------

LOSSES: Mapping[str, Callable[[RestartableRedis], object]] = {
    "killed and empty": RestartableRedis.restart_empty,
    "killed, with a stale file": RestartableRedis.restart_stale,
    "emptied while it runs": lambda server: server.client.flushall(),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.django_db
def test_nothing_is_forgotten(loss: str, own_redis: RestartableRedis, market_now: datetime) -> None:
    at(market_now + timedelta(seconds=5))
    budget = CallBudget(
        own_redis.client, limits=TEN, records=ProviderCallRecords(), longest_wait_s=0.0
    )
    budget.settle(budget.reserve("binance", "/a", 4), failed=False, response_ms=1)
    own_redis.keep()
    budget.reserve("binance", "/b", 6)
    LOSSES[loss](own_redis)
    assert refuses(budget)
    at(market_now + timedelta(seconds=70))  # the last may have arrived a little late
    assert refuses(budget)
    at(market_now + timedelta(seconds=75))
    assert not refuses(budget, 10)


@pytest.mark.parametrize("key", ["log", "tally"])
@pytest.mark.django_db
def test_a_key_that_was_thrown_away_is_noticed(
    key: str, redis_client: redis.Redis, market_now: datetime
) -> None:
    budget = CallBudget(redis_client, limits=TEN, records=ProviderCallRecords(), longest_wait_s=0.0)
    budget.settle(budget.reserve("binance", "/x", 10), failed=False, response_ms=1)
    assert redis_client.delete(f"provider_budget:{key}:binance") == 1
    assert refuses(budget)
    at(market_now + timedelta(seconds=75))
    assert not refuses(budget, 10)


def test_a_provider_without_a_limit_is_counted(redis_client: redis.Redis) -> None:
    budget = CallBudget(redis_client, limits=TEN, longest_wait_s=0.0)
    for _ in range(30):
        budget.reserve("elsewhere", "/x", 2)
    assert budget.used("elsewhere") == 60


def test_without_records_the_loss_would_show(
    own_redis: RestartableRedis, market_now: datetime
) -> None:
    budget = CallBudget(own_redis.client, limits=TEN, longest_wait_s=0.0)
    budget.reserve("binance", "/a", 4)
    own_redis.keep()
    budget.reserve("binance", "/b", 6)
    assert refuses(budget)
    own_redis.restart_empty()
    assert not refuses(budget)


class Interrupted(ProviderCallRecords):
    """Before the first row is written, something happens."""

    def __init__(self, happening: Callable[[], object]) -> None:
        self._happening: Callable[[], object] | None = happening

    def add(self, provider: str, endpoint: str, minute: datetime, weight: int) -> None:
        """See ProviderCallRecords."""
        happening, self._happening = self._happening, None
        if happening is not None:
            happening()
        super().add(provider, endpoint, minute, weight)


@pytest.mark.parametrize("loss", ["killed and empty", "emptied while it runs"])
@pytest.mark.django_db
def test_a_call_whose_row_came_too_late_is_reserved_again(
    loss: str, own_redis: RestartableRedis, market_now: datetime
) -> None:
    """Between the reservation and its row, Redis is lost, and filled again by another process."""
    other = CallBudget(
        own_redis.client, limits=TEN, records=ProviderCallRecords(), longest_wait_s=0.0
    )

    def happening() -> None:
        LOSSES[loss](own_redis)
        other.settle(other.reserve("binance", "/other", 3), failed=False, response_ms=1)
        at(clock.now() + MINUTE / 2)

    at(market_now + timedelta(seconds=45))
    budget = CallBudget(
        own_redis.client, limits=TEN, records=Interrupted(happening), longest_wait_s=0.0
    )
    mine = budget.reserve("binance", "/mine", 5)
    rows = {row.endpoint: row for row in ProviderCallMinute.objects.filter(calls__gt=0)}
    assert {name: row.calls for name, row in rows.items()} == {"/other": 1, "/mine": 1}
    assert rows["/mine"].minute == mine.minute == floor_time(mine.at, "1m")
    assert refuses(budget, 3)
    assert not refuses(budget, 2)


@pytest.mark.django_db
def test_without_redis_nothing_is_reserved_or_counted(own_redis: RestartableRedis) -> None:
    budget = CallBudget(own_redis.client, limits=TEN, records=Interrupted(own_redis.kill))
    with pytest.raises(redis.RedisError):
        budget.reserve("binance", "/x")
    with pytest.raises(redis.RedisError):
        budget.reserve("binance", "/x")
    assert not ProviderCallMinute.objects.filter(calls__gt=0).exists()


def test_without_the_table_nothing_is_reserved(redis_client: redis.Redis) -> None:
    def fail() -> None:
        raise RecordsUnavailable("gone")

    CallBudget(redis_client, limits=TEN).settle(
        CallBudget(redis_client, limits=TEN).reserve("binance", "/x", 1),
        failed=False,
        response_ms=1,
    )
    with pytest.raises(RecordsUnavailable):
        CallBudget(redis_client, limits=TEN, records=Interrupted(fail)).reserve("binance", "/x", 9)
    assert not refuses(CallBudget(redis_client, limits=TEN, longest_wait_s=0.0), 9)


@pytest.mark.django_db
def test_a_clock_that_went_back_starts_anew(
    redis_client: redis.Redis, market_now: datetime
) -> None:
    budget = CallBudget(redis_client, limits=TEN, records=ProviderCallRecords(), longest_wait_s=0.0)
    budget.settle(budget.reserve("binance", "/x", 10), failed=False, response_ms=1)
    at(market_now - timedelta(days=400))
    assert not refuses(budget, 10)
    assert refuses(budget)
