"""What a market day will cost, beside what it has cost, the limits and the naive schedule."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from collectors.models import (
    FundingRate,
    Instrument,
    MacroSeries,
    ProviderCallMinute,
    Tier,
)
from collectors.selectors import budget_today
from collectors.selectors.budget import forecast_day

AT = datetime(2025, 3, 3, 12, tzinfo=UTC)
SERIES = 9


@pytest.fixture(autouse=True)
def _configured(bitcoin: Instrument, settings: Any, redis_client: redis.Redis) -> None:
    settings.CANDLE_SOURCES = ("binance", "bybit", "coingecko")
    settings.ENV = dataclasses.replace(settings.ENV, fred_api_key="a" * 32, coingecko_plan="demo")
    assert MacroSeries.objects.filter(is_enabled=True).count() == SERIES
    assert Instrument.objects.filter(is_enabled=True).count() == 15


def streaming(redis_client: redis.Redis) -> None:
    redis_client.set("heartbeat:stream", "now")


def listed(exchange: str) -> int:
    """Instruments with a symbol there at AT."""
    return sum(
        any(
            item.exchange == exchange and (item.valid_to is None or item.valid_to > AT)
            for item in instrument.listings.all()
        )
        for instrument in Instrument.objects.all()
    )


def called(provider: str, at: datetime, calls: int, **fields: Any) -> None:
    ProviderCallMinute.objects.create(
        provider=provider, endpoint="/x", minute=at, calls=calls, weight=calls, **fields
    )


def entry(provider: str) -> dict[str, Any]:
    (found,) = [row for row in budget_today(at=AT)["providers"] if row["provider"] == provider]
    return found


def test_while_the_streams_run_exchanges_cost_no_candle_call(redis_client: redis.Redis) -> None:
    streaming(redis_client)
    forecast = forecast_day(at=AT)
    assert forecast.is_streaming
    assert listed("binance") == 12
    # A list of instruments, and three times a day the settlements and the outlook: Binance gives
    # the settlements of all symbols at once.
    assert forecast.calls["binance"] == 1 + 3 + 3
    assert forecast.calls["bybit"] == 1 + 3 * 12 + 3
    # Three coins without an exchange: an hourly poll for all, one refinement each; a discovery.
    assert forecast.calls["coingecko"] == 24 + 3 + 1
    assert forecast.calls["fred"] == SERIES


def test_without_the_streams_the_best_exchange_is_asked_for_each_bar() -> None:
    forecast = forecast_day(at=AT)
    assert not forecast.is_streaming
    candles = 2 * (96 + 24) + 10 * 24
    assert forecast.calls["binance"] == candles + 1 + 3 + 3
    assert forecast.calls["bybit"] == 1 + 3 * 12 + 3


def test_coingecko_alone(settings: Any, redis_client: redis.Redis) -> None:
    streaming(redis_client)
    settings.CANDLE_SOURCES = ("coingecko",)
    calls = forecast_day(at=AT).calls
    assert calls["coingecko"] == 96 + 10 + 1 <= 300  # bitcoin and ethereum need quarters of hours
    assert sum(calls.values()) == 96 + 10 + 1 + SERIES <= 393
    Instrument.objects.filter(tier=Tier.HIGH_FREQUENCY).update(tier=Tier.HOURLY, timeframes=["1h"])
    assert forecast_day(at=AT).calls["coingecko"] == 24 + 10 + 1


def test_what_is_switched_off_costs_nothing(settings: Any) -> None:
    Instrument.objects.update(is_enabled=False)
    MacroSeries.objects.exclude(series_id="DFF").update(is_enabled=False)
    calls = forecast_day(at=AT).calls
    assert calls == {"binance": 1, "bybit": 1, "coingecko": 1, "fred": 1}
    settings.ENV = dataclasses.replace(settings.ENV, fred_api_key="")
    assert forecast_day(at=AT).calls["fred"] == 0
    assert budget_today(at=AT)["naive"]["saved_pct"] is None


def test_funding_follows_the_interval_last_seen(
    bitcoin: Instrument, redis_client: redis.Redis
) -> None:
    streaming(redis_client)
    before = forecast_day(at=AT).calls["bybit"]
    for hours_ago, interval in ((16, 8.0), (1, 1.0)):
        FundingRate.objects.create(
            instrument=bitcoin,
            exchange="bybit",
            symbol="BTCUSDT",
            funding_time=AT - timedelta(hours=hours_ago),
            rate=0.0001,
            interval_hours=interval,
            received_at=AT,
        )
    assert forecast_day(at=AT).calls["bybit"] == before - 3 + 24 - 3 + 24
    assert forecast_day(at=AT).calls["binance"] == 1 + 3 + 3


def test_the_day_the_month_and_the_projection() -> None:
    called("coingecko", AT.replace(day=1), 4000)
    called("coingecko", AT.replace(hour=1), 20, errors=2, response_ms_total=500.0)
    called("coingecko", AT.replace(month=2, day=28), 5000)
    row = entry("coingecko")
    assert (row["calls_today"], row["projected"], row["errors_today"]) == (20, 40, 2)
    assert (row["calls_this_month"], row["limit_per_month"]) == (4020, 10_000)
    assert (row["limit"], row["limit_per_day"]) == (30, 10_000 // 31)
    assert row["utilization_pct"] == pytest.approx(66.67)  # the minute of 20 calls
    assert row["mean_response_ms"] == 25
    called("coingecko", AT.replace(hour=2), 5, errors=0)
    ProviderCallMinute.objects.filter(calls=20).update(weight=1)
    assert entry("coingecko")["utilization_pct"] == pytest.approx(40.25)  # the month


def test_the_busiest_minute_counts_all_endpoints() -> None:
    for endpoint in ("/a", "/b"):
        ProviderCallMinute.objects.create(
            provider="binance", endpoint=endpoint, minute=AT, calls=1, weight=600
        )
    row = entry("binance")
    assert (row["busiest_minute_weight"], row["utilization_pct"]) == (1200, 50.0)
    assert row["limit_per_month"] is row["limit_per_day"] is None


def test_the_naive_schedule_is_beside_it(redis_client: redis.Redis) -> None:
    streaming(redis_client)
    called("binance", AT.replace(hour=1), 144)
    budget = budget_today(at=AT)
    expected = 7 + 40 + 28 + SERIES
    assert budget["total"] == {"calls_today": 144, "forecast": expected, "projected": 288}
    assert budget["naive"] == {
        "instruments": 15,
        "calls_per_day": 2880,
        "calls_until_now": 1440,
        "saved_pct": round(100 * (1 - expected / 2880), 2),
        "saved_until_now_pct": 90.0,
    }


def test_the_first_minutes_of_a_day_project_nothing() -> None:
    midnight = AT.replace(hour=0)
    called("binance", midnight, 100)
    assert budget_today(at=midnight + timedelta(minutes=5))["total"]["projected"] is None
    assert budget_today(at=midnight + timedelta(minutes=30))["total"]["projected"] == 4800
