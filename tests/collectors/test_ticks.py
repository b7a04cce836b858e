"""Ticks of a tier: what the newest day lacks, one look for all, and how every series stands."""

import json
from datetime import datetime, timedelta

import pytest
import redis
from django.db import connection
from django.test.utils import CaptureQueriesContext

from collectors import clock, services
from collectors.models import CollectionState, Instrument, Ohlcv, Tier
from collectors.services import coverage
from tests.collectors.providers import NOW, Venues

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def short_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "HISTORY_DEPTH", timedelta(days=2))


@pytest.fixture
def solana(bitcoin: Instrument, venues: Venues) -> Instrument:
    """The only instrument that is collected, with two days at both exchanges."""
    Instrument.objects.exclude(coin_id="solana").update(is_enabled=False)
    begin = coverage.default_history_start()
    venues.add("binance", "SOLUSDT", begin, NOW, 100.0)
    venues.add("bybit", "SOLUSDT", begin, NOW, 101.0)
    return Instrument.objects.get(coin_id="solana")


def tick() -> list[services.Coverage]:
    return services.cover_tier(tier=Tier.HOURLY)


def later(moment: datetime) -> None:
    clock.configure(clock.MarketClock(start=moment, anchor=clock.wall_now(), speed=1.0))


def test_a_tick_that_comes_twice_or_late_does_no_double_work(
    solana: Instrument, venues: Venues, redis_client: redis.Redis
) -> None:
    (first,) = tick()
    assert first.is_complete
    calls = venues.calls("binance")
    assert tick() == []
    assert venues.calls("binance") == calls
    end = NOW.replace(minute=0)
    venues.add("binance", "SOLUSDT", end, end + 3 * HOUR, 102.0)
    later(end + 3 * HOUR + timedelta(minutes=1))  # two ticks were missed
    (late,) = tick()
    assert (late.stored, late.requests) == (3, 1)
    assert venues.calls("binance") == calls + 1
    assert tick() == []


def test_the_state_of_a_series_says_how_it_stands(
    solana: Instrument, venues: Venues, redis_client: redis.Redis
) -> None:
    venues.failing.add("binance")
    tick()
    state = CollectionState.objects.get(instrument=solana)
    assert (state.consecutive_failures, state.success_rate) == (1, 0.0)
    assert state.last_success_at is None
    assert "binance" in state.last_error
    venues.failing.clear()
    tick()
    state.refresh_from_db()
    assert (state.consecutive_failures, state.success_rate, state.last_error) == (0, 0.0, "")
    end = NOW.replace(minute=0)
    venues.add("binance", "SOLUSDT", end, end + HOUR, 102.0)
    later(end + HOUR + timedelta(minutes=1))
    tick()
    state.refresh_from_db()
    assert (state.consecutive_failures, state.success_rate) == (0, 0.5)
    assert state.response_ms is not None
    assert state.response_ms > 0
    assert state.next_due_at == NOW.replace(hour=12, minute=1)
    told = redis_client.get("scheduler_status:hourly:solana")
    status = json.loads(told)["timeframes"]["1h"]
    assert status["success_rate"] == 0.5
    assert status["next_due_at"] == "2025-03-03T12:01:00+00:00"
    assert 0 < redis_client.ttl("scheduler_status:hourly:solana") <= 300


def test_a_series_that_the_stream_keeps_is_well_and_costs_nothing(
    solana: Instrument, venues: Venues, redis_client: redis.Redis
) -> None:
    tick()
    calls = venues.calls("binance")
    CollectionState.objects.update(last_success_at=NOW - HOUR)
    assert tick() == []
    assert CollectionState.objects.get(instrument=solana).last_success_at >= NOW
    assert venues.calls("binance") == calls


def test_a_hole_in_the_newest_day_is_the_ticks_and_an_older_one_the_repairs(
    solana: Instrument, venues: Venues, redis_client: redis.Redis
) -> None:
    tick()
    whole = Ohlcv.objects.count()
    recent = NOW.replace(minute=0) - 5 * HOUR
    Ohlcv.objects.filter(open_time__in=[recent, recent - 30 * HOUR]).delete()
    (repaired,) = tick()
    assert repaired.stored == 2
    Ohlcv.objects.filter(open_time=recent - 30 * HOUR).delete()
    assert tick() == []
    services.cover_all([(solana, "1h")])
    assert Ohlcv.objects.count() == whole


def test_a_failed_collection_is_taken_up_although_the_newest_day_is_there(
    solana: Instrument, venues: Venues, redis_client: redis.Redis
) -> None:
    tick()
    CollectionState.objects.update(consecutive_failures=1)
    old = NOW.replace(minute=0) - 40 * HOUR
    Ohlcv.objects.filter(open_time=old).delete()
    (result,) = tick()
    assert result.stored == 1
    assert CollectionState.objects.get().consecutive_failures == 0


def test_the_looks_do_not_grow_with_the_instruments(
    solana: Instrument, venues: Venues, redis_client: redis.Redis
) -> None:
    tick()
    with CaptureQueriesContext(
        connection,
    ) as few:
        assert tick() == []
    others = [
        Instrument.objects.create(coin_id=f"coin-{number}", symbol="C", name="C", sector="x")
        for number in range(40)
    ]
    candles = Ohlcv.objects.filter(instrument=solana)
    Ohlcv.objects.bulk_create(
        Ohlcv(**{**row, "instrument_id": other.pk, "id": None})
        for other in others
        for row in candles.values()
    )
    states = [
        CollectionState(instrument=other, timeframe="1h", last_success_at=NOW) for other in others
    ]
    CollectionState.objects.bulk_create(states)
    with CaptureQueriesContext(connection) as many:
        assert tick() == []
    assert len(many) == len(few)


def test_a_series_whose_work_broke_off_is_not_well(
    solana: Instrument, venues: Venues, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(coverage, "store_candles", fail)
        assert tick() == []
    state = CollectionState.objects.get(instrument=solana)
    assert (state.consecutive_failures, state.last_success_at) == (1, None)
    assert "the disk is full" in state.last_error
    assert state.next_due_at is not None
    (healed,) = tick()
    assert healed.is_complete
    state.refresh_from_db()
    assert (state.consecutive_failures, state.last_error) == (0, "")
