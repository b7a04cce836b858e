"""The collect queue's tasks."""

from datetime import datetime, timedelta

import pytest
import redis
import structlog

from collectors import clock, tasks
from collectors.models import (
    CollectionState,
    Instrument,
    MacroObservation,
    MacroSeries,
    Ohlcv,
    ProviderCallMinute,
)
from collectors.services import coverage
from tests.collectors.providers import NOW, Provider, Venues, json_answer


def test_a_tick_covers_its_tier(
    bitcoin: Instrument, venues: Venues, history_start: datetime, redis_client: redis.Redis
) -> None:
    Instrument.objects.exclude(coin_id="solana").update(is_enabled=False)
    venues.add("binance", "SOLUSDT", history_start, NOW, 100.0)
    redis_client.set("collecting:hourly", "1", px=10_000)
    assert tasks.collect_tier("hourly") == 0
    redis_client.delete("collecting:hourly")
    assert tasks.collect_tier("hourly") == Ohlcv.objects.count() > 1000
    assert tasks.collect_tier("hourly") == 0


def test_the_backfill_covers_everything_once_and_the_most_wanted_first(
    bitcoin: Instrument,
    venues: Venues,
    provider: Provider,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A moment at which the newest closed bar of both timeframes begins with an hour: the venues of
    # these tests have no other bars.
    now = NOW - timedelta(minutes=10)
    clock.configure(clock.MarketClock(start=now, anchor=clock.wall_now(), speed=1.0))
    monkeypatch.setattr(coverage, "HISTORY_DEPTH", timedelta(days=2))
    history_start = coverage.default_history_start()
    wanted = ("bitcoin", "ethereum", "solana", "tether")
    Instrument.objects.exclude(coin_id__in=wanted).update(is_enabled=False)
    Instrument.objects.filter(coin_id="ethereum").update(is_strategy_enabled=False)
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        venues.add("binance", symbol, history_start, NOW, 100.0)
    venues.add("coingecko", "tether", history_start, NOW, 1.0)
    CollectionState.objects.create(
        instrument=Instrument.objects.get(coin_id="solana"),
        timeframe="1h",
        leased_until=clock.wall_now() + timedelta(minutes=1),  # a tick is at it
    )
    provider.routes["/fred/series/observations"] = lambda _: json_answer(
        {"count": 0, "observations": []}
    )
    with structlog.testing.capture_logs() as logged:
        stored = tasks.backfill_all()
    assert stored == Ohlcv.objects.count() > 200
    (done,) = [line for line in logged if line["event"] == "backfill_done"]
    assert (done["series"], done["candles"], done["left_to_others"]) == (6, stored, 1)
    first_asked = list(
        dict.fromkeys(
            (params.get("symbol", path), params.get("interval", ""))
            for path, params in provider.requests
            if "bybit" not in path and "funding" not in path
        )
    )
    assert first_asked == [
        ("/fred/series/observations", ""),
        ("BTCUSDT", "1h"),
        ("BTCUSDT", "15m"),
        ("/coingecko/coins/bitcoin/market_chart/range", ""),  # what the exchange lacks
        ("ETHUSDT", "1h"),
        ("/coingecko/coins/tether/market_chart/range", ""),
        ("ETHUSDT", "15m"),
        ("/coingecko/coins/ethereum/market_chart/range", ""),
    ]
    CollectionState.objects.update(leased_until=None)
    venues.provider.requests.clear()
    assert tasks.backfill_all() > 50
    asked = [params["symbol"] for path, params in provider.requests if "kline" in path]
    assert set(asked) == {"SOLUSDT"}
    assert tasks.backfill_all() == tasks.collect_tier("hourly") == 0
    assert sum("kline" in path for path in provider.paths()) == len(asked)


def test_macro_failures_do_not_raise(
    bitcoin: Instrument, venues: Venues, provider: Provider
) -> None:
    provider.routes["/fred/series/observations"] = lambda _: json_answer({}, 400)
    assert tasks.collect_macro_series() == 0
    assert not MacroObservation.objects.exists()
    series = MacroSeries.objects.count()
    assert series >= 9
    failed = ProviderCallMinute.objects.filter(provider="fred", errors__gte=1)
    assert sum(row.calls for row in failed) == len(provider.requests) == series
    assert tasks.collect_macro_series() == 0
    assert len(provider.requests) == series  # nobody asks again at once
