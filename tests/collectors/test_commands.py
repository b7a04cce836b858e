"""The commands of the collectors: one clear line for wrong input, JSON for programs."""

import json
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from collectors.marketdata import to_ms
from collectors.models import FundingRate, Instrument, Listing, MacroSeries, Ohlcv
from tests.collectors.providers import NOW, Answer, Venues, json_answer, observations


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["backfill_candles", "--instrument", "nocoin"], "unknown instrument 'nocoin'"),
        (["backfill_candles", "--instrument", "bitcoin", "--timeframe", "7h"], "timeframe '7h'"),
        (["backfill_candles", "--instrument", "bitcoin", "--start", "soon"], "--start: 'soon'"),
        (
            ["backfill_candles", "--instrument", "bitcoin", "--start", "2030-01-01"],
            "--start: the start must be before the end",
        ),
        (
            ["backfill_candles", "--instrument", "bitcoin", "--start", "0001-01-01"],
            "no source has candles before 2017-01-01",
        ),
        (
            ["backfill_candles", "--instrument", "bitcoin", "--start", "0001-01-01T00:00+14:00"],
            "--start: '0001",
        ),
        (
            [
                "backfill_candles",
                "--instrument",
                "tether",
                "--start=2020-01-01",
                "--end=2020-02-01",
            ],
            "no source has candles of tether before 2024-03-04",
        ),
        (
            ["backfill_candles", "--instrument=bitcoin", "--timeframe=1m", "--start=2017-01-01"],
            "bars are too many at once, 2,000,000 at most",
        ),
        (["backfill_candles", "--instrument", "bitcoin", "nocoin"], "unknown instrument 'nocoin'"),
        (["backfill_candles", "--instrument", "bitcoin", "--timeframe", "4h"], "backfill these"),
        (
            ["collect", "weekly"],
            "'weekly'; known: .*hourly, macro, funding, discovery",
        ),
        (["stream_market_data", "--exchanges", "nasdaq"], "unknown exchange 'nasdaq'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    bitcoin: Instrument, market_now: datetime, arguments: list[str], text: str
) -> None:
    with pytest.raises(CommandError, match=text) as caught:
        call_command(*arguments)
    assert caught.value.returncode == 2
    assert "\n" not in str(caught.value)


def test_backfill_fetches_the_span(bitcoin: Instrument, venues: Venues) -> None:
    start = datetime.fromisoformat("2024-06-01T00:00:00+00:00")
    venues.add("binance", "BTCUSDT", start, start + timedelta(hours=48), 100.0)
    out = StringIO()
    call_command(
        "backfill_candles",
        "--instrument=bitcoin",
        "--start=2024-06-01",
        "--end=2024-06-02T00:00:05",
        "--json",
        stdout=out,
    )
    assert json.loads(out.getvalue())["stored"] == 24
    assert Ohlcv.objects.count() == 24


def test_backfill_begins_where_the_sources_do(bitcoin: Instrument, venues: Venues) -> None:
    listed = datetime.fromisoformat("2024-05-31T00:00:00+00:00")
    Listing.objects.filter(instrument=bitcoin).update(valid_from=listed)
    Instrument.objects.update(source_chain=["binance", "bybit"])
    venues.add("binance", "BTCUSDT", listed, listed + timedelta(hours=24), 100.0)
    errors = StringIO()
    call_command(
        "backfill_candles",
        "--instrument=bitcoin",
        "--start=2017-06-01",
        "--end=2024-06-01T00:00:05",
        stdout=StringIO(),
        stderr=errors,
    )
    assert errors.getvalue().count("\n") == 1
    assert "no source has candles of bitcoin before 2024-05-31" in errors.getvalue()
    assert Ohlcv.objects.count() == 24
    assert venues.calls("binance") == 1


def test_collect_covers_a_tier_and_tells_of_failures(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    Instrument.objects.exclude(coin_id__in=["solana", "tether"]).update(is_enabled=False)
    venues.add("binance", "SOLUSDT", history_start, NOW, 100.0)
    venues.add("coingecko", "tether", history_start, NOW, 1.0)
    out = StringIO()
    call_command("collect", "hourly", "--json", stdout=out)
    results = {item["coin_id"]: item for item in json.loads(out.getvalue())}
    assert results["solana"]["stored"] == results["tether"]["stored"] > 1000
    venues.failing.add("binance")
    Ohlcv.objects.all().delete()
    with pytest.raises(SystemExit) as caught:
        call_command("collect", "hourly", "--json", stdout=StringIO())
    assert caught.value.code == 1


def test_collect_macro_collects_what_is_due_and_tells_of_each_failure(
    bitcoin: Instrument, venues: Venues
) -> None:
    MacroSeries.objects.exclude(series_id__in=["VIXCLS", "DFF"]).update(is_enabled=False)
    told = observations([("2025-02-27", "2025-02-28", "14.47")], page=1000)

    def route(params: dict[str, str]) -> Answer:
        return told(params) if params["series_id"] == "VIXCLS" else json_answer({}, 500)

    venues.provider.routes["/fred/series/observations"] = route
    out, errors = StringIO(), StringIO()
    with pytest.raises(SystemExit) as caught:
        call_command("collect", "macro", "--json", stdout=out, stderr=errors)
    assert caught.value.code == 1
    rows = {row["series_id"]: row for row in json.loads(out.getvalue())}
    assert set(rows) == {"VIXCLS", "DFF"}
    assert rows["VIXCLS"] == {"series_id": "VIXCLS", "stored": 1, "errors": []}
    assert rows["DFF"]["stored"] == 0
    assert errors.getvalue().startswith("DFF: ")
    out = StringIO()
    call_command("collect", "macro", stdout=out)
    assert out.getvalue().strip() == "nothing was due"


def test_collect_funding_stores_the_settlements_that_are_due(
    bitcoin: Instrument, venues: Venues, settings: Any
) -> None:
    settings.CANDLE_SOURCES = ("bybit",)
    Instrument.objects.exclude(coin_id="bitcoin").update(is_enabled=False)
    settled = NOW.replace(hour=8, minute=0)
    row = {
        "symbol": "BTCUSDT",
        "fundingRate": "0.0001",
        "fundingRateTimestamp": str(to_ms(settled)),
    }

    def history(params: dict[str, str]) -> Answer:
        is_asked = int(params["startTime"]) <= to_ms(settled) <= int(params["endTime"])
        listed = [row] if is_asked else []
        return json_answer({"retCode": 0, "retMsg": "OK", "result": {"list": listed}})

    venues.provider.routes["/bybit/v5/market/funding/history"] = history
    out = StringIO()
    call_command("collect", "funding", "--json", stdout=out)
    (told,) = json.loads(out.getvalue())
    assert (told["stored"], told["errors"]) == (1, [])
    assert FundingRate.objects.get().funding_time == settled
