"""What Redis holds: the newest quotes, and the provider calls that are not in the table yet."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any

import msgspec
import redis
from django.conf import settings

from collectors.budget import MINUTE_LIMITS, CallBudget
from collectors.marketdata import Quote, floor_time
from collectors.models import ProviderCallMinute

_quotes = msgspec.json.Decoder(Quote)


@functools.cache
def redis_client() -> redis.Redis:
    """This process's client of the shared Redis; safe to use from several threads."""
    return redis.Redis.from_url(settings.REDIS_URL)


def quote_key(exchange: str, symbol: str) -> str:
    """The Redis key of a top of book."""
    return f"orderbook:{exchange}:{symbol}"


def latest_quote(*, exchange: str, symbol: str) -> Quote | None:
    """The newest top of book that the stream has written, or None."""
    raw: Any = redis_client().get(quote_key(exchange, symbol))
    return None if raw is None else _quotes.decode(raw)


def budget_today(*, at: datetime) -> list[dict[str, Any]]:
    """The calls to each provider in the market day of `at`, those not yet in the table included.

    `utilization_pct` is the busiest minute's share of the provider's limit a minute.
    """
    day = floor_time(at, "1d")
    rows = ProviderCallMinute.objects.filter(minute__gte=day, minute__lte=at).values_list(
        "provider", "minute", "calls", "weight", "errors", "response_ms_total"
    )
    waiting = [
        (c.provider, c.minute, c.calls, c.weight, c.errors, c.response_ms_total)
        for c in CallBudget(redis_client()).waiting()
        if c.minute >= day
    ]
    entries: list[dict[str, Any]] = []
    for provider, limit in MINUTE_LIMITS.items():
        own = [row[1:] for row in [*rows, *waiting] if row[0] == provider]
        minutes: dict[datetime, int] = {}
        for minute, _, weight, _, _ in own:
            minutes[minute] = minutes.get(minute, 0) + weight
        calls = sum(row[1] for row in own)
        busiest = max(minutes.values(), default=0)
        entries.append(
            {
                "provider": provider,
                "calls_today": calls,
                "weight_today": sum(row[2] for row in own),
                "errors_today": sum(row[3] for row in own),
                "mean_response_ms": sum(row[4] for row in own) / calls if calls else None,
                "limit_per_minute": limit,
                "busiest_minute_weight": busiest,
                "utilization_pct": round(100 * busiest / limit, 2),
            }
        )
    return entries
