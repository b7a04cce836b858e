"""The clients against the sandbox's own process: REST and streams tell the same story."""

import asyncio
import dataclasses
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from collectors import clock, services
from collectors.marketdata import Quote, duration, floor_time
from collectors.models import CandleReplacement, Instrument, MacroObservation, Ohlcv
from collectors.selectors import latest_quote, missing_at
from collectors.stream_session import Pace
from tests.collectors.stream_runs import running

PROJECT = Path(__file__).resolve().parents[2]
START = datetime(2025, 3, 3, tzinfo=UTC)
SPEED = 3600
STREAMED_S = 4.0


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[str, datetime]]:
    """A seeded world at an hour a second: its address and the wall time at which it is START."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    anchor = datetime.now(UTC)
    command = [sys.executable, "-m", "sandbox", "--port", str(port), "--seed", "7"]
    command += ["--start", START.isoformat(), "--speed", str(SPEED)]
    command += ["--anchor", anchor.isoformat()]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}", anchor
    finally:
        child.terminate()
        child.wait(timeout=10)


@pytest.fixture
def connected(world: tuple[str, datetime], settings: Any) -> Iterator[None]:
    """Settings and clock of that world."""
    host, anchor = world
    settings.PROVIDER_URLS = {
        "COINGECKO_BASE_URL": f"http://{host}/coingecko/api/v3",
        "FRED_BASE_URL": f"http://{host}/fred/fred",
        "BINANCE_REST_URL": f"http://{host}/binance",
        "BINANCE_WS_URL": f"ws://{host}/binance",
        "BINANCE_SPOT_REST_URL": f"http://{host}/binance",
        "BINANCE_SPOT_WS_URL": f"ws://{host}/binance/spot",
        "BYBIT_REST_URL": f"http://{host}/bybit",
        "BYBIT_WS_URL": f"ws://{host}/bybit/v5/public",
    }
    settings.ENV = dataclasses.replace(settings.ENV, clock_start=START, fred_api_key="a" * 32)
    before = clock.current()
    clock.configure(clock.MarketClock(start=START, anchor=anchor, speed=SPEED))
    yield
    clock.configure(before)


@pytest.mark.django_db(transaction=True)
def test_history_stream_and_repair_agree(bitcoin: Instrument, connected: None) -> None:
    wanted = ["bitcoin", "solana", "tether"]
    Instrument.objects.exclude(coin_id__in=wanted).update(is_enabled=False)
    begin = clock.now()
    quotes: dict[str, Quote | None] = {}

    async def stream() -> None:
        async with running(Pace()):
            await asyncio.sleep(STREAMED_S)
            for exchange in ("binance", "bybit"):
                quotes[exchange] = await asyncio.to_thread(
                    latest_quote, exchange=exchange, symbol="BTCUSDT"
                )

    asyncio.run(stream())
    end = floor_time(clock.now(), "1h") - 2 * duration("1h")
    streamed = {
        (item.coin_id, candle.open_time): (candle.open, candle.high, candle.low, candle.close)
        for item in Instrument.objects.filter(is_enabled=True)
        for candle in item.candles.filter(timeframe="1h")
    }
    assert {coin for coin, _ in streamed} == {"bitcoin", "solana"}
    assert len(streamed) >= 2 * (STREAMED_S - 2)
    assert Ohlcv.objects.filter(timeframe="15m", source="binance").count() >= 4
    assert not Ohlcv.objects.filter(source="bybit").exists()
    assert len(quotes) == 2
    for quote in quotes.values():
        assert quote is not None
        assert begin < quote.event_time < clock.now()
        assert 0 < quote.best_bid < quote.best_ask

    # The repair fetches what the stream was not there for, and changes nothing that it stored.
    for coin_id in wanted:
        instrument = Instrument.objects.get(coin_id=coin_id)
        coverage = services.ensure_coverage(
            instrument=instrument, timeframe="1h", until=end + 2 * duration("1h")
        )
        assert not coverage.errors
        assert coverage.stored > 1700
        assert missing_at(instruments=[instrument], timeframe="1h", open_time=end) == []
    assert not CandleReplacement.objects.exists()
    Ohlcv.objects.filter(timeframe="1h", instrument__coin_id__in=["bitcoin", "solana"]).delete()
    for (coin_id, open_time), values in streamed.items():
        instrument = Instrument.objects.get(coin_id=coin_id)
        services.ensure_coverage(
            instrument=instrument, timeframe="1h", until=clock.now(), start=open_time
        )
        candle = Ohlcv.objects.get(instrument=instrument, timeframe="1h", open_time=open_time)
        assert (candle.open, candle.high, candle.low, candle.close) == values


def test_macro_releases_come_from_the_world(bitcoin: Instrument, connected: None) -> None:
    assert services.collect_macro(series_id="VIXCLS") > 200
    assert services.collect_macro(series_id="VIXCLS") == 0
    for observation in MacroObservation.objects.all():
        assert observation.released_at.date() > observation.date
        assert observation.realtime_start <= clock.now().date()
