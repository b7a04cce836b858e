"""Funding settlements: once each, at each instrument's own interval, and no call for nothing."""

import json
from datetime import datetime, timedelta
from typing import Any

import redis
from django.contrib.auth.models import Group, User
from django.test import Client

from collectors.models import FundingRate, Instrument
from collectors.services import coverage, ensure_funding
from tests.collectors.providers import NOW, Answer, json_answer
from tests.collectors.settling import HOUR, LAST, Settling


def times_of(coin_id: str) -> list[datetime]:
    rates = FundingRate.objects.filter(instrument__coin_id=coin_id).order_by("funding_time")
    return list(rates.values_list("funding_time", flat=True))


def test_history_once_and_then_nothing(settling: Settling) -> None:
    start = coverage.default_history_start()
    settling.every(8, ["BTCUSDT", "SOLUSDT"], start=start, end=NOW)
    done = ensure_funding()
    assert (done.stored, done.errors) == (2 * 32, [])
    assert times_of("bitcoin") == settling.times["BTCUSDT"]
    rate = FundingRate.objects.filter(instrument__coin_id="bitcoin").latest("funding_time")
    assert (rate.exchange, rate.symbol, rate.rate, rate.mark_price, rate.interval_hours) == (
        "binance",
        "BTCUSDT",
        0.0001,
        100.5,
        8.0,
    )
    assert settling.calls() == ["fundingRate", "fundingRate", "premiumIndex"]
    for _ in range(3):
        assert ensure_funding().stored == 0
    assert len(settling.calls()) == 3


def test_one_call_for_all_that_are_due(settling: Settling, at: Any) -> None:
    start = coverage.default_history_start()
    settling.every(8, ["BTCUSDT", "SOLUSDT"], start=start, end=NOW + 8 * HOUR)
    ensure_funding()
    before = len(settling.calls())
    at(LAST + 8 * HOUR - timedelta(minutes=1))
    assert ensure_funding().stored == 0
    assert len(settling.calls()) == before
    at(LAST + 8 * HOUR + timedelta(minutes=1))
    assert ensure_funding().stored == 2
    assert settling.calls()[before:] == ["fundingRate", "premiumIndex"]
    assert ensure_funding().stored == 0
    assert FundingRate.objects.count() == 2 * 33


def test_an_interval_that_changes_is_learned(settling: Settling, at: Any) -> None:
    Instrument.objects.filter(coin_id="solana").update(is_enabled=False)
    start = coverage.default_history_start()
    settling.every(8, ["BTCUSDT"], start=start, end=NOW)
    ensure_funding()
    settling.every(1, ["BTCUSDT"], start=LAST + HOUR, end=NOW + 24 * HOUR)
    at(LAST + 8 * HOUR + timedelta(minutes=1))
    assert ensure_funding().stored == 8
    newest = FundingRate.objects.latest("funding_time")
    assert (newest.funding_time, newest.interval_hours) == (LAST + 8 * HOUR, 1.0)
    at(LAST + 9 * HOUR + timedelta(minutes=1))
    assert ensure_funding().stored == 1


def test_a_late_settlement_is_not_asked_for_all_the_time(settling: Settling, at: Any) -> None:
    Instrument.objects.filter(coin_id="solana").update(is_enabled=False)
    start = coverage.default_history_start()
    settling.every(8, ["BTCUSDT"], start=start, end=NOW + 24 * HOUR)
    ensure_funding()
    settling.shown_until = LAST
    before = len(settling.calls())
    for minutes in (1, 1.5, 1.9):
        at(LAST + 8 * HOUR + timedelta(minutes=minutes))
        assert ensure_funding().stored == 0
    assert len(settling.calls()) == before + 1
    settling.shown_until = NOW + 24 * HOUR
    at(LAST + 8 * HOUR + timedelta(minutes=3))
    assert ensure_funding().stored == 1


def test_holes_are_repaired(settling: Settling) -> None:
    start = coverage.default_history_start()
    settling.every(8, ["BTCUSDT", "SOLUSDT"], start=start, end=NOW)
    ensure_funding()
    whole = list(FundingRate.objects.values_list("instrument", "funding_time", "interval_hours"))
    rows = FundingRate.objects.filter(instrument__coin_id="bitcoin").order_by("funding_time")
    lost = [rows[number].pk for number in (0, 7, 8, 20)]
    FundingRate.objects.filter(pk__in=lost).delete()
    assert ensure_funding().stored == 0
    assert ensure_funding(repair=True).stored == 4
    stored = list(FundingRate.objects.values_list("instrument", "funding_time", "interval_hours"))
    assert stored == whole
    assert ensure_funding(repair=True).stored == 0


def test_exchanges_that_are_not_allowed_are_not_asked(settling: Settling, settings: Any) -> None:
    start = coverage.default_history_start()
    settling.every(8, ["BTCUSDT", "SOLUSDT"], start=start, end=NOW)
    settings.CANDLE_SOURCES = ("coingecko",)
    assert ensure_funding().stored == 0
    assert settling.calls() == []
    settings.CANDLE_SOURCES = ("bybit",)
    assert ensure_funding().stored == 64
    assert set(FundingRate.objects.values_list("exchange", "mark_price")) == {("bybit", None)}


def test_a_failing_exchange_stores_nothing_and_stops_no_other(
    settling: Settling, settings: Any
) -> None:
    start = coverage.default_history_start()
    settling.every(8, ["BTCUSDT", "SOLUSDT"], start=start, end=NOW)
    settings.CANDLE_SOURCES = ("binance", "bybit")
    settling.provider.routes["/binance/fapi/v1/fundingRate"] = lambda _: (200, {}, b"<html>")
    done = ensure_funding()
    assert len(done.errors) == 1
    assert done.errors[0].startswith("binance funding: ")
    assert set(FundingRate.objects.values_list("exchange", flat=True)) == {"bybit"}


def test_a_symbol_that_is_refused_stops_no_other(
    settling: Settling, settings: Any, redis_client: redis.Redis
) -> None:
    settings.CANDLE_SOURCES = ("bybit",)
    settling.every(8, ["SOLUSDT"], start=coverage.default_history_start(), end=NOW)

    def answer(params: dict[str, str]) -> Answer:
        if params["symbol"] == "BTCUSDT":
            return json_answer({"retCode": 10001, "retMsg": "symbol invalid", "result": {}})
        return settling.bybit(params)

    settling.provider.routes["/bybit/v5/market/funding/history"] = answer
    done = ensure_funding()
    assert done.stored == 32
    assert [error for error in done.errors if "BTCUSDT" in error] == done.errors != []
    asked = len(settling.calls())
    assert ensure_funding().errors == []  # it is asked again after a while
    assert len(settling.calls()) == asked


def test_live_readers_find_the_newest_and_the_coming_rate(
    settling: Settling, redis_client: redis.Redis
) -> None:
    settling.every(8, ["BTCUSDT"], start=coverage.default_history_start(), end=NOW)
    ensure_funding()
    said = json.loads(redis_client.get("funding:binance:BTCUSDT"))  # type: ignore[arg-type]
    assert (said["rate"], said["predicted_rate"], said["mark_price"]) == (0.0001, 0.0002, 101.5)
    assert datetime.fromisoformat(said["funding_time"]) == LAST
    assert datetime.fromisoformat(said["next_funding_time"]) == LAST + 8 * HOUR
    assert 86_000 < redis_client.ttl("funding:binance:BTCUSDT") <= 86_400  # type: ignore[operator]


def test_settlements_over_http(settling: Settling, client: Client) -> None:
    settling.every(8, ["BTCUSDT", "SOLUSDT"], start=LAST - 24 * HOUR, end=NOW)
    ensure_funding()
    assert client.get("/api/v1/funding/").status_code in (401, 403)
    user = User.objects.create_user("reader", password="x")
    user.groups.add(Group.objects.get_or_create(name="viewer")[0])
    client.force_login(user)
    page = client.get("/api/v1/funding/", {"instrument": "bitcoin", "page_size": 3}).json()
    rows = page["results"]
    while page["next"]:
        page = client.get(page["next"]).json()
        rows += page["results"]
    assert [datetime.fromisoformat(row["funding_time"]) for row in rows] == [
        LAST - number * 8 * HOUR for number in range(4)
    ]
    assert rows[0]["rate"] == 0.0001
    assert (rows[0]["instrument"], rows[0]["exchange"]) == ("bitcoin", "binance")
    narrowed = {"start": (LAST - 8 * HOUR).isoformat(), "end": LAST.isoformat()}
    assert len(client.get("/api/v1/funding/", narrowed).json()["results"]) == 2
    assert client.get("/api/v1/funding/", {"exchange": "kraken"}).status_code == 400
    assert client.get("/api/v1/funding/", {"exchange": "bybit"}).json()["results"] == []
