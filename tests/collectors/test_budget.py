"""The call budget, on a real Redis-protocol server."""

import threading
from datetime import datetime

import pytest
import redis

from collectors.budget import BudgetExhausted, CallBudget
from collectors.marketdata import floor_time


def test_counts_are_drained_once(redis_client: redis.Redis, market_now: datetime) -> None:
    budget = CallBudget(redis_client)
    for failed in (False, True):
        budget.record("binance", "/klines", weight=5, failed=failed, response_ms=10.5)
    (count,) = budget.drain()
    assert (count.calls, count.weight, count.errors, count.response_ms_total) == (2, 10, 1, 21.0)
    assert count.minute == floor_time(market_now, "1m")
    assert budget.drain() == []
    budget.add([count])
    assert budget.waiting() == [count]


def test_a_used_up_minute_is_waited_for(redis_client: redis.Redis, market_now: datetime) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        redis_client.flushdb()  # the next minute has its own counter

    budget = CallBudget(redis_client, limits={"binance": 10}, sleep=sleep)
    budget.reserve("binance", 8)
    budget.reserve("binance", 5)
    assert len(waits) == 1
    assert 0 < waits[0] <= 60


def test_a_wait_that_is_too_long_is_refused(
    redis_client: redis.Redis, market_now: datetime
) -> None:
    budget = CallBudget(redis_client, limits={"binance": 10}, longest_wait_s=0.0)
    budget.reserve("binance", 10)
    with pytest.raises(BudgetExhausted) as caught:
        budget.reserve("binance", 1)
    assert caught.value.retry_after > 0


def test_the_provider_knows_better(redis_client: redis.Redis, market_now: datetime) -> None:
    budget = CallBudget(redis_client, limits={"binance": 100}, longest_wait_s=0.0)
    budget.reconcile("binance", 99)
    budget.reserve("binance", 1)
    with pytest.raises(BudgetExhausted):
        budget.reserve("binance", 1)


def test_a_block_holds_for_every_process(redis_client: redis.Redis) -> None:
    CallBudget(redis_client).block("fred", 30)
    with pytest.raises(BudgetExhausted):
        CallBudget(redis_client, longest_wait_s=1.0).reserve("fred", 1)


def test_concurrent_reservations_never_exceed_the_limit(
    redis_client: redis.Redis, market_now: datetime
) -> None:
    budget = CallBudget(redis_client, limits={"bybit": 20}, longest_wait_s=0.0)
    granted: list[int] = []

    def take() -> None:
        for _ in range(10):
            try:
                budget.reserve("bybit", 1)
            except BudgetExhausted:
                continue
            granted.append(1)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(granted) <= 20
