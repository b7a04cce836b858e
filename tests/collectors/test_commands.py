"""The commands of the collectors: one clear line for wrong input, JSON for programs."""

import json
from datetime import datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from collectors.models import Instrument, Listing, Ohlcv
from tests.collectors.providers import NOW, Venues


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
        (["collect", "weekly"], "unknown tier 'weekly'"),
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
