"""Funding with the stream on: stored as it is seen, confirmed by few calls, asked for if missed."""

import itertools
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
import redis.asyncio
from asgiref.sync import sync_to_async
from django.db import connections

from collectors import clock
from collectors.exchanges import binance
from collectors.feeds import MarkPrice
from collectors.models import FundingRate, Instrument, QualityFinding
from collectors.services import ensure_funding
from collectors.services.funding_keys import FundingKeys, funding_key
from collectors.services.funding_rows import store_seen_settlements
from collectors.settlements import SeenSettlement
from tests.collectors.providers import NOW, Answer, json_answer
from tests.collectors.settling import HOUR, LAST, Settling

NEXT = LAST + 8 * HOUR
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def see(symbol: str, at: datetime, *, exchange: str = "binance", rate: float = 1e-4) -> None:
    """The stream has seen a settlement, and nothing of the one before."""
    coin = {"BTCUSDT": "bitcoin", "SOLUSDT": "solana"}[symbol]
    item = SeenSettlement(
        exchange=exchange,
        symbol=symbol,
        funding_time=at,
        rate=rate,
        mark_price=100.0,
        interval_hours=None,
    )
    assert store_seen_settlements([(Instrument.objects.get(coin_id=coin), item)]) == 1


def says(redis_client: redis.Redis, exchange: str, symbols: Sequence[str], at: datetime) -> None:
    """A stream has written the keys at a moment."""
    said = {
        "exchange": exchange, "symbol": "", "funding_time": None, "rate": None,
        "predicted_rate": 1e-4, "next_funding_time": None, "mark_price": 1.0,
        "interval_hours": None, "is_streamed": True, "at": at.isoformat(),
    }  # fmt: skip
    for symbol in symbols:
        value = json.dumps(said | {"symbol": symbol})
        redis_client.set(funding_key(exchange, symbol), value)


@pytest.fixture
def history(settling: Settling) -> Settling:
    """Ten days of settlements, stored, and many to come."""
    start = LAST - 10 * DAY
    settling.every(8, ["BTCUSDT", "SOLUSDT"], start=start, end=NOW + 60 * DAY)
    ensure_funding()
    settling.provider.requests.clear()
    return settling


def test_what_the_stream_has_seen_costs_no_call_when_it_is_due(history: Settling, at: Any) -> None:
    at(NEXT + 2 * MINUTE)
    for symbol in ("BTCUSDT", "SOLUSDT"):
        see(symbol, NEXT)
    assert ensure_funding().stored == 0
    assert history.calls() == []
    newest = FundingRate.objects.filter(instrument__coin_id="bitcoin").latest("funding_time")
    # The interval is that of the one before, which it follows by it.
    assert (newest.interval_hours, newest.is_confirmed) == (8.0, False)


def test_a_settlement_that_is_there_stays_as_it_is(history: Settling, bitcoin: Instrument) -> None:
    seen = SeenSettlement(
        exchange="binance",
        symbol="BTCUSDT",
        funding_time=LAST,
        rate=0.5,
        mark_price=1.0,
        interval_hours=1.0,
    )
    assert store_seen_settlements([(bitcoin, seen), (bitcoin, seen)]) == 0
    rate = FundingRate.objects.get(instrument=bitcoin, funding_time=LAST)
    assert (rate.rate, rate.is_confirmed) == (1e-4, True)


def test_a_day_of_streamed_settlements_costs_one_call_for_all_symbols(
    history: Settling, at: Any
) -> None:
    moments = [NEXT, NEXT + 8 * HOUR, NEXT + 16 * HOUR]
    for hour in range(1, 50):
        at(LAST + hour * HOUR + 2 * MINUTE)
        if LAST + hour * HOUR in moments:
            for symbol in ("BTCUSDT", "SOLUSDT"):
                see(symbol, LAST + hour * HOUR)
        if hour <= 31:
            ensure_funding()
    # One at the first look after midnight, about what had settled before it and at it.
    assert history.calls() == ["fundingRate"]
    unconfirmed = FundingRate.objects.filter(is_confirmed=False)
    assert set(unconfirmed.values_list("funding_time", flat=True)) == {NEXT + 16 * HOUR}
    confirmed = FundingRate.objects.get(instrument__coin_id="bitcoin", funding_time=NEXT)
    assert (confirmed.mark_price, confirmed.interval_hours) == (100.5, 8.0)
    assert not QualityFinding.objects.exists()


def test_the_history_corrects_what_the_stream_had_wrong(history: Settling, at: Any) -> None:
    at(NEXT + 2 * MINUTE)
    see("BTCUSDT", NEXT, rate=3e-4)
    see("SOLUSDT", NEXT)
    assert ensure_funding().corrected == 0
    at(NEXT + 8 * HOUR + 2 * MINUTE)
    assert ensure_funding().corrected == 1
    rate = FundingRate.objects.get(instrument__coin_id="bitcoin", funding_time=NEXT)
    assert (rate.rate, rate.is_confirmed) == (1e-4, True)
    row = QualityFinding.objects.get()
    assert (row.reason, row.at, row.source) == ("streamed funding rate corrected", NEXT, "binance")
    assert (row.values["kept"]["rate"], row.values["dropped"]["rate"]) == (1e-4, 3e-4)


def test_what_the_history_passes_over_did_not_happen(history: Settling, at: Any) -> None:
    see("BTCUSDT", NEXT)
    see("BTCUSDT", NEXT + HOUR)  # there was none
    at(NEXT + 8 * HOUR + 2 * MINUTE)
    ensure_funding()
    rates = FundingRate.objects.filter(funding_time__gte=NEXT, instrument__coin_id="bitcoin")
    times = rates.order_by("funding_time").values_list("funding_time", "interval_hours")
    assert list(times) == [(NEXT, 8.0), (NEXT + 8 * HOUR, 8.0)]
    assert QualityFinding.objects.get().reason == "streamed settlement not in the history"


def test_what_the_stream_missed_is_asked_for_at_the_next_look(history: Settling, at: Any) -> None:
    at(NEXT + 16 * HOUR + 2 * MINUTE)
    see("SOLUSDT", NEXT)
    see("SOLUSDT", NEXT + 8 * HOUR)
    for symbol in ("BTCUSDT", "SOLUSDT"):
        see(symbol, NEXT + 16 * HOUR)  # bitcoin's stream was down twice
    done = ensure_funding()
    assert (done.stored, done.errors) == (2, [])
    rates = FundingRate.objects.filter(instrument__coin_id="bitcoin", funding_time__gte=NEXT)
    assert (
        list(rates.order_by("funding_time").values_list("interval_hours", flat=True)) == [8.0] * 3
    )
    history.provider.requests.clear()
    assert ensure_funding().stored == 0
    assert history.calls() == []


def test_a_hole_that_the_history_does_not_show_yet_is_asked_for_more_and_more_seldom(
    history: Settling, at: Any
) -> None:
    Instrument.objects.filter(coin_id="solana").update(is_enabled=False)
    see("BTCUSDT", NEXT + 8 * HOUR)
    history.shown_until = LAST
    for minutes in range(2, 62, 10):
        at(NEXT + 8 * HOUR + minutes * MINUTE)
        ensure_funding()
    assert 1 <= len(history.calls()) <= 5
    history.shown_until = NOW + 60 * DAY
    at(NEXT + 15 * HOUR)
    assert ensure_funding().stored == 1


def test_a_stream_that_runs_is_waited_for(
    history: Settling, at: Any, redis_client: redis.Redis
) -> None:
    moment = NEXT + timedelta(seconds=32)  # an exchange's history would have it
    at(moment)
    says(redis_client, "binance", ["BTCUSDT", "SOLUSDT"], moment)
    assert ensure_funding().stored == 0
    assert history.calls() == []
    # With a stream that has died, or that has missed it, the history is asked.
    says(redis_client, "binance", ["BTCUSDT"], moment - 2 * MINUTE)
    assert ensure_funding().stored == 1
    moment = NEXT + timedelta(seconds=36)
    at(moment)
    says(redis_client, "binance", ["SOLUSDT"], moment)
    assert ensure_funding().stored == 1


def test_the_keys_of_a_stream_that_runs_are_left_alone(
    history: Settling, at: Any, redis_client: redis.Redis
) -> None:
    moment = NEXT + 2 * MINUTE
    at(moment)
    says(redis_client, "binance", ["BTCUSDT", "SOLUSDT"], moment)
    assert ensure_funding().stored == 2
    assert history.calls() == ["fundingRate"]  # and not for the outlook
    said = json.loads(redis_client.get(funding_key("binance", "BTCUSDT")))  # type: ignore[arg-type]
    assert said["is_streamed"] is True


def test_without_a_call_for_all_each_symbol_is_confirmed_once_a_week_on_its_day(
    settling: Settling, settings: Any, at: Any
) -> None:
    settings.CANDLE_SOURCES = ("bybit",)
    symbols = ["BTCUSDT", "SOLUSDT"]
    settling.every(8, symbols, start=LAST - 10 * DAY, end=NOW + 60 * DAY)
    ensure_funding()
    days: dict[str, list[int]] = {symbol: [] for symbol in symbols}
    calls = 0
    for number in range(1, 3 * 21):
        moment = LAST + 8 * number * HOUR
        at(moment + 2 * MINUTE)
        for symbol in symbols:
            see(symbol, moment, exchange="bybit", rate=-0.0002)
        settling.provider.requests.clear()
        ensure_funding()
        for _, params in settling.provider.requests:
            days[params["symbol"]].append(moment.toordinal())
            calls += 1
    assert calls == 6
    for asked in days.values():
        assert [later - earlier for earlier, later in itertools.pairwise(asked)] == [7, 7]
    assert not set(days["BTCUSDT"]) & set(days["SOLUSDT"])
    oldest = FundingRate.objects.filter(is_confirmed=False).earliest("funding_time")
    assert LAST + 21 * DAY - oldest.funding_time < 8 * DAY
    assert not QualityFinding.objects.exists()


def test_a_symbols_day_that_was_missed_is_made_up_for(
    settling: Settling, settings: Any, at: Any
) -> None:
    settings.CANDLE_SOURCES = ("bybit",)
    Instrument.objects.filter(coin_id="solana").update(is_enabled=False)
    settling.every(8, ["BTCUSDT"], start=LAST - 10 * DAY, end=NOW + 60 * DAY)
    ensure_funding()
    settling.provider.requests.clear()
    (its_day,) = [d for d in range(1, 8) if (LAST + d * DAY).toordinal() % 7 == 0]
    for number in range(1, 3 * (its_day + 2)):
        see("BTCUSDT", LAST + 8 * number * HOUR, exchange="bybit", rate=-0.0002)
    for days in (its_day + 1, its_day + 1.5):  # nothing ran on its day
        at(LAST + days * DAY)
        ensure_funding()
    asked = len(settling.calls())
    at(LAST + 9 * DAY)
    see("BTCUSDT", LAST + 9 * DAY, exchange="bybit", rate=-0.0002)
    ensure_funding()
    assert asked <= 1 <= len(settling.calls())


def test_a_failed_confirmation_changes_nothing_and_is_tried_again(
    history: Settling, at: Any
) -> None:
    see("BTCUSDT", NEXT)
    see("SOLUSDT", NEXT)
    at(LAST.replace(hour=0) + DAY + 2 * MINUTE)
    for symbol in ("BTCUSDT", "SOLUSDT"):
        see(symbol, LAST.replace(hour=0) + DAY)
    good = history.provider.routes["/binance/fapi/v1/fundingRate"]

    def broken(_: dict[str, str]) -> Answer:
        return json_answer({"code": -1, "msg": "no"}, 418)

    history.provider.routes["/binance/fapi/v1/fundingRate"] = broken
    assert ensure_funding().errors
    assert FundingRate.objects.filter(is_confirmed=False).count() == 4
    history.provider.routes["/binance/fapi/v1/fundingRate"] = good


def streamed(at: datetime, rate: float = 2e-4) -> MarkPrice:
    return MarkPrice(
        exchange=binance.NAME,
        symbol="BTCUSDT",
        mark_price=101.5,
        index_price=None,
        funding_rate=rate,
        next_funding_time=NEXT,
        event_time=at,
        received_at=clock.wall_now(),
    )


@pytest.mark.django_db(transaction=True)
async def test_the_stream_writes_the_newest_and_the_coming_rate(
    settling: Settling, redis_client: redis.Redis, settings: Any
) -> None:
    start = LAST - 2 * DAY
    settling.every(8, ["BTCUSDT"], start=start, end=NOW)
    await sync_to_async(ensure_funding)()

    def said() -> dict[str, Any]:
        value: dict[str, Any] = json.loads(redis_client.get(key))  # type: ignore[arg-type]
        return value

    key = funding_key("binance", "BTCUSDT")
    async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client:
        keys = FundingKeys(client)
        await keys.publish([streamed(NOW)])
        assert (said()["rate"], said()["predicted_rate"], said()["mark_price"]) == (
            1e-4, 2e-4, 101.5,
        )  # fmt: skip
        assert datetime.fromisoformat(said()["funding_time"]) == LAST
        assert datetime.fromisoformat(said()["next_funding_time"]) == NEXT
        assert (said()["interval_hours"], said()["is_streamed"]) == (8.0, True)
        assert 86_000 < redis_client.ttl(key) <= 86_400  # type: ignore[operator]
        seen = SeenSettlement(
            exchange="binance",
            symbol="BTCUSDT",
            funding_time=NEXT,
            rate=7e-4,
            mark_price=1.0,
            interval_hours=8.0,
        )
        keys.note(seen)  # before its row is there
        await keys.publish([streamed(NEXT + MINUTE)])
        assert (said()["rate"], datetime.fromisoformat(said()["funding_time"])) == (7e-4, NEXT)
    await sync_to_async(connections.close_all)()


async def test_keys_are_written_without_a_database_and_not_without_redis(
    market_now: datetime, redis_client: redis.Redis, settings: Any
) -> None:
    # This test may not use the database, which raises what an absent one does not: so none is
    # read here, as if it had been a moment ago.
    async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client:
        keys = FundingKeys(client)
        keys._read_at = float("inf")
        await keys.publish([streamed(NOW)])
    said = json.loads(redis_client.get(funding_key("binance", "BTCUSDT")))  # type: ignore[arg-type]
    assert (said["rate"], said["funding_time"], said["predicted_rate"]) == (None, None, 2e-4)
    async with redis.asyncio.Redis.from_url("redis://127.0.0.1:9/0") as client:
        keys = FundingKeys(client)
        keys._read_at = float("inf")
        await keys.publish([streamed(NOW)])
