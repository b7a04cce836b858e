"""Findings are kept, counted and bounded, and never stand in the way."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.db import transaction

from collectors import services
from collectors.marketdata import Candle, to_ms
from collectors.models import CandleHole, Instrument, Ohlcv, QualityFinding
from collectors.quality import Finding
from tests.collectors.providers import NOW, Answer, Provider, Venues, json_answer

HOUR = timedelta(hours=1)
AT = datetime(2025, 3, 3, 9, tzinfo=UTC)
ELSEWHERE = "close far from another exchange"
SUBJECT = "candles:bitcoin:1h"
GOOD = Candle(open_time=AT, open=10.0, high=12.0, low=9.0, close=11.0, volume=3.0, source="bybit")


def finding(at: datetime = AT, **changes: Any) -> Finding:
    values: dict[str, Any] = {
        "verdict": "rejected",
        "reason": "high below low",
        "at": at,
        "source": "binance",
        "values": {"high": 1.0},
    }
    return Finding(**values | changes)


def test_the_same_finding_is_counted_and_not_repeated(
    bitcoin: Instrument, market_now: datetime
) -> None:
    found = [finding(), finding(), finding(source="bybit")]
    assert services.record_findings(subject=SUBJECT, findings=found, instrument=bitcoin) == 2
    row = QualityFinding.objects.get(source="binance")
    assert (row.verdict, row.times, row.values, row.instrument) == (
        "rejected", 2, {"high": 1.0}, bitcoin,
    )  # fmt: skip
    with transaction.atomic():
        assert services.record_findings(subject=SUBJECT, findings=found[:1]) == 0
    row.refresh_from_db()
    assert row.times == 3
    assert row.first_seen_at < row.last_seen_at


def test_of_many_findings_the_rest_is_counted_in_one_row(bitcoin: Instrument) -> None:
    found = [finding(AT + number * HOUR) for number in range(50)]
    assert services.record_findings(subject=SUBJECT, findings=found) == 21
    summary = QualityFinding.objects.get(at=AT + 20 * HOUR)
    assert (summary.times, summary.values["more"]) == (30, 30)
    assert services.record_findings(subject=SUBJECT, findings=found) == 0
    assert sum(QualityFinding.objects.values_list("times", flat=True)) == 100


def test_a_finding_that_cannot_be_kept_does_not_fail_the_store(bitcoin: Instrument) -> None:
    unfit = finding(values={"text": "a\x00b"})  # PostgreSQL's JSON has no such character
    with transaction.atomic():
        assert services.record_findings(subject=SUBJECT, findings=[unfit]) == 0
        assert services.record_findings(subject=SUBJECT, findings=[finding()]) == 1
    assert QualityFinding.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"high": 8.0}, "high below low"),
        ({"close": float("nan")}, "a price is not finite"),
        ({"open_time": NOW}, "still forming"),
        ({"open_time": AT - HOUR / 2}, "open time is not on the grid"),
    ],
)
def test_every_rejected_candle_is_found_with_what_it_said(
    bitcoin: Instrument, market_now: datetime, change: dict[str, Any], reason: str
) -> None:
    bad = msgspec.structs.replace(GOOD, **change)
    kept, rejected = services.keep_possible(instrument=bitcoin, timeframe="1h", candles=[GOOD, bad])
    assert (kept, rejected) == ([GOOD], 1)
    row = QualityFinding.objects.get()
    assert (row.verdict, row.reason, row.subject) == ("rejected", reason, SUBJECT)
    assert (row.at, row.source, row.instrument) == (bad.open_time, "bybit", bitcoin)
    assert set(row.values) == {"open", "high", "low", "close", "volume"}


def test_an_impossible_candle_of_a_source_is_found(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    last = AT - HOUR
    venues.add("binance", "BTCUSDT", history_start, AT + HOUR, 100.0)
    venues.bars["binance", "BTCUSDT"][last] = -1.0
    result = services.ensure_coverage(instrument=bitcoin, timeframe="1h", until=NOW)
    assert result.rejected == 1
    row = QualityFinding.objects.get()
    assert (row.reason, row.at, row.source) == ("a price is not positive", last, "binance")
    assert not Ohlcv.objects.filter(open_time=last).exists()
    assert CandleHole.objects.get().start == last


@pytest.mark.parametrize(
    ("close", "reason"),
    [
        (11.1, None),
        (11.3, "close far from another exchange"),
        (10.7, "close far from another exchange"),
    ],
)
def test_a_better_source_that_replaces_a_worse_one_far_away_is_flagged(
    bitcoin: Instrument, market_now: datetime, close: float, reason: str | None
) -> None:
    better = msgspec.structs.replace(GOOD, source="binance", close=close)
    for candle in (GOOD, better):
        services.store_candles(instrument=bitcoin, timeframe="1h", candles=[candle])
    assert Ohlcv.objects.get().close == close
    assert [row.reason for row in QualityFinding.objects.all()] == ([reason] if reason else [])
    for row in QualityFinding.objects.all():
        assert (row.verdict, row.at, row.source, row.instrument) == (
            "flagged", AT, "binance", bitcoin,
        )  # fmt: skip
        assert (row.values["kept"]["close"], row.values["bybit"]["close"]) == (close, 11.0)


@pytest.mark.parametrize(
    ("close", "reason"), [(11.5, None), (11.7, "close far from price samples")]
)
def test_price_samples_may_lie_further_away(
    bitcoin: Instrument, market_now: datetime, close: float, reason: str | None
) -> None:
    sampled = msgspec.structs.replace(GOOD, source="coingecko", is_sampled=True, volume=None)
    better = msgspec.structs.replace(GOOD, source="binance", close=close)
    for candle in (sampled, better):
        services.store_candles(instrument=bitcoin, timeframe="1h", candles=[candle])
    assert [row.reason for row in QualityFinding.objects.all()] == ([reason] if reason else [])
    assert all(row.values["coingecko"]["volume"] is None for row in QualityFinding.objects.all())


def test_what_an_answer_has_against_the_venues_rules_is_found(
    bitcoin: Instrument, venues: Venues, provider: Provider
) -> None:
    """Out of order, twice, twice with other values, and forming: the table has each bar once."""
    Instrument.objects.update(source_chain=["bybit", "binance"])
    bitcoin.refresh_from_db()
    told = [(-1, 99.0), (0, 100.0), (0, 100.0), (2, 102.0), (1, 101.0), (3, 90.0), (3, 91.0)]
    newest_first = [
        [str(to_ms(AT - hours * HOUR)), "100", "120", "80", str(close), "1", "0"]
        for hours, close in told
    ]
    answer = {"retCode": 0, "retMsg": "OK", "result": {"list": newest_first}}
    provider.routes["/bybit/v5/market/kline"] = lambda _: json_answer(answer)
    services.ensure_coverage(instrument=bitcoin, timeframe="1h", until=NOW, start=AT - 3 * HOUR)
    stored = Ohlcv.objects.filter(source="bybit").order_by("open_time")
    assert [candle.close for candle in stored] == [90.0, 102.0, 101.0, 100.0]
    found = QualityFinding.objects.filter(source="bybit").order_by("at")
    assert [(row.verdict, row.reason, row.at) for row in found] == [
        ("flagged", "given twice with different values", AT - 3 * HOUR),
        ("flagged", "out of order", AT - 2 * HOUR),
        ("flagged", "repeated", AT),
        ("rejected", "still forming", AT + HOUR),
    ]
    twice = found[0].values
    assert (twice["kept"]["close"], twice["dropped"]["close"]) == (90.0, 91.0)


def test_the_volume_of_coingecko_never_enters_a_candle(
    bitcoin: Instrument, venues: Venues, provider: Provider, history_start: datetime
) -> None:
    tether = Instrument.objects.get(coin_id="tether")
    times = [history_start + number * HOUR for number in range(90 * 24)]

    def route(params: dict[str, str]) -> Answer:
        begin, end = int(params["from"]) * 1000, int(params["to"]) * 1000
        points = [[to_ms(at) + 60_000, 1.0] for at in times if begin <= to_ms(at) < end]
        rolling = [[at, 5e10] for at, _ in points]
        return json_answer({"prices": points, "market_caps": rolling, "total_volumes": rolling})

    provider.routes["/coingecko/coins/tether/market_chart/range"] = route
    services.ensure_coverage(instrument=tether, timeframe="1h", until=NOW)
    candles = Ohlcv.objects.filter(instrument=tether)
    assert candles.count() > 1000
    assert candles.filter(volume=None, is_sampled=True).count() == candles.count()
