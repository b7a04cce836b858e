"""The collect queue's tasks."""

from datetime import datetime

import redis

from collectors import tasks
from collectors.models import Instrument, MacroObservation, Ohlcv
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
    assert tasks.cover_series("solana", "1h") == 0


def test_macro_failures_do_not_raise(
    bitcoin: Instrument, venues: Venues, provider: Provider
) -> None:
    provider.routes["/fred/series/observations"] = lambda _: json_answer({}, 400)
    assert tasks.collect_macro_series() == 0
    assert not MacroObservation.objects.exists()
    assert tasks.flush_provider_calls() == 1
