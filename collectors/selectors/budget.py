"""The calls to each provider: what was made, what the configuration will need, what is allowed,
and what a schedule without gap repair would have cost."""

from __future__ import annotations

import math
from calendar import monthrange
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import redis
from django.conf import settings
from django.db.models import OuterRef, Subquery, Sum

from collectors.budget import Limit, provider_limits
from collectors.call_window import month_of
from collectors.marketdata import duration, floor_time
from collectors.models import FundingRate, Instrument, MacroSeries, ProviderCallMinute, Tier
from collectors.selectors.instruments import enabled_instruments, listing_for
from collectors.selectors.live import redis_client
from collectors.sources import FEEDS, FUNDING_VENUES, VENUES

DAY = timedelta(days=1)
# The schedule that gap repair replaces: every asset each quarter of an hour, from both sources.
NAIVE_TICKS, NAIVE_SOURCES = 96, 2
TICKS = {Tier.HIGH_FREQUENCY.value: 96, Tier.HOURLY.value: 24}
FUNDING_HOURS = 8.0
COINS_PER_POLL = 250
COINGECKO = "coingecko"
# Before this share of the day has passed, its calls say nothing about the whole.
SHORTEST_SHARE = 1 / 96
STREAM_HEARTBEAT = "heartbeat:stream"


@dataclass(frozen=True)
class Forecast:
    """Calls in a whole market day by provider, and whether the streams bring the candles."""

    calls: Counter[str]
    is_streaming: bool


def budget_today(*, at: datetime) -> dict[str, Any]:
    """How the budget stands in the market day of `at`.

    `providers` has one entry for each: calls made, `forecast` for the whole day, `projected` from
    what was made (null in the day's first quarter of an hour), limits (null: none) and
    `utilization_pct`, the larger of the busiest minute's share of `limit` (weight per minute) and
    the month's share of `limit_per_month`. `naive` is every enabled instrument each quarter of an
    hour from two sources, and what of it the forecast saves.
    """
    day, (month, _) = floor_time(at, "1d"), month_of(at)
    share = (at - day) / DAY
    forecast = forecast_day(at=at)
    made = {row["provider"]: row for row in _sums(day, at)}
    busiest = _busiest_minutes(day, at)
    of_month = dict(
        ProviderCallMinute.objects.filter(minute__gte=month, minute__lte=at)
        .order_by()
        .values_list("provider")
        .annotate(Sum("calls"))
    )
    limits = provider_limits(coingecko_plan=settings.ENV.coingecko_plan)
    providers = [
        _entry(
            provider,
            limit,
            made=made.get(provider, {}),
            busiest=busiest.get(provider, 0),
            month_calls=of_month.get(provider, 0),
            forecast=forecast.calls[provider],
            share=share,
            at=at,
        )
        for provider, limit in limits.items()
    ]
    calls = sum(entry["calls_today"] for entry in providers)
    expected = sum(entry["forecast"] for entry in providers)
    return {
        "at": at,
        "is_streaming": forecast.is_streaming,
        "providers": providers,
        "total": {
            "calls_today": calls,
            "forecast": expected,
            "projected": _projected(calls, share),
        },
        "naive": _naive(expected, calls, share),
    }


def _entry(
    provider: str,
    limit: Limit,
    *,
    made: dict[str, Any],
    busiest: int,
    month_calls: int,
    forecast: int,
    share: float,
    at: datetime,
) -> dict[str, Any]:
    calls = made.get("calls", 0)
    used = busiest / limit.per_minute
    per_day = None
    if limit.per_month is not None:
        used = max(used, month_calls / limit.per_month)
        per_day = limit.per_month // monthrange(at.year, at.month)[1]
    return {
        "provider": provider,
        "calls_today": calls,
        "forecast": forecast,
        "projected": _projected(calls, share),
        "limit": limit.per_minute,
        "limit_per_day": per_day,
        "limit_per_month": limit.per_month,
        "calls_this_month": month_calls,
        "weight_today": made.get("weight", 0),
        "busiest_minute_weight": busiest,
        "utilization_pct": round(100 * used, 2),
        "errors_today": made.get("errors", 0),
        "mean_response_ms": round(made["response_ms"] / calls, 3) if calls else None,
    }


def _naive(expected: int, calls: int, share: float) -> dict[str, Any]:
    instruments = Instrument.objects.filter(is_enabled=True).count()
    whole = instruments * NAIVE_TICKS * NAIVE_SOURCES
    until_now = whole * share
    return {
        "instruments": instruments,
        "calls_per_day": whole,
        "calls_until_now": math.floor(until_now),
        "saved_pct": round(100 * (1 - expected / whole), 2) if whole else None,
        "saved_until_now_pct": round(100 * (1 - calls / until_now), 2) if until_now >= 1 else None,
    }


def _projected(calls: int, share: float) -> int | None:
    return math.ceil(calls / share) if share >= SHORTEST_SHARE else None


def _sums(day: datetime, at: datetime) -> list[dict[str, Any]]:
    rows = ProviderCallMinute.objects.filter(minute__gte=day, minute__lte=at).order_by()
    sums = rows.values("provider").annotate(
        calls=Sum("calls"),
        weight=Sum("weight"),
        errors=Sum("errors"),
        response_ms=Sum("response_ms_total"),
    )
    return [dict(row) for row in sums]


def _busiest_minutes(day: datetime, at: datetime) -> dict[str, int]:
    busiest: dict[str, int] = {}
    rows = ProviderCallMinute.objects.filter(minute__gte=day, minute__lte=at).order_by()
    sums = rows.values_list("provider", "minute").annotate(total=Sum("weight"))
    for provider, _, total in sums:
        busiest[provider] = max(busiest.get(provider, 0), total)
    return busiest


# -- What the configuration needs --------------------------------------------------------------


def forecast_day(*, at: datetime) -> Forecast:
    """The calls of a whole market day as things stand at `at`, when nothing fails.

    Candles cost a call per closed bar from the first source that serves the instrument, none from
    an exchange while the streams run; CoinGecko answers for all its coins at once, and refines each
    nightly. Beside them: each macro series and each exchange's instrument list daily, funding at
    each instrument's interval, and one discovery.
    """
    is_streaming = stream_is_alive()
    calls: Counter[str] = Counter()
    sampled: list[Instrument] = []
    instruments = enabled_instruments()
    for instrument in instruments:
        source = _serving(instrument, at)
        if source == COINGECKO:
            sampled.append(instrument)
        elif source is not None and not (is_streaming and source in FEEDS):
            calls[source] += _ticks(instrument)
    if sampled:
        polls = 96 if any("15m" in item.timeframes for item in sampled) else 24
        pages = math.ceil(len(sampled) / COINS_PER_POLL)
        calls["coingecko"] += polls * pages + len(sampled)
    if "coingecko" in settings.CANDLE_SOURCES:
        calls["coingecko"] += 1
    calls.update(_settlements(instruments, at))
    calls.update(name for name in VENUES if name in settings.CANDLE_SOURCES)
    if settings.ENV.fred_api_key:
        calls["fred"] += MacroSeries.objects.filter(is_enabled=True).count()
    return Forecast(calls, is_streaming)


def stream_is_alive() -> bool:
    """Whether the stream process has written its heartbeat, which expires, lately."""
    try:
        return bool(redis_client().exists(STREAM_HEARTBEAT))
    except redis.RedisError:
        return False


def _serving(instrument: Instrument, at: datetime) -> str | None:
    """The first allowed source that has the instrument at `at`; None without any."""
    for source in instrument.source_chain:
        if source not in settings.CANDLE_SOURCES:
            continue
        if source == COINGECKO or listing_for(instrument=instrument, exchange=source, at=at):
            return str(source)
    return None


def _ticks(instrument: Instrument) -> int:
    """Closed bars a day over the instrument's timeframes, as often as its tier looks."""
    return sum(
        min(DAY // duration(frame), TICKS[instrument.tier]) for frame in instrument.timeframes
    )


def _settlements(instruments: list[Instrument], at: datetime) -> Counter[str]:
    """Funding calls a day by exchange, by the intervals last seen."""
    newest = FundingRate.objects.filter(
        instrument=OuterRef("instrument"), exchange=OuterRef("exchange")
    ).order_by("-funding_time")
    seen = {
        (row["instrument"], row["exchange"]): row["interval"]
        for row in FundingRate.objects.order_by()
        .values("instrument", "exchange")
        .distinct()
        .annotate(interval=Subquery(newest.values("interval_hours")[:1]))
    }
    calls: Counter[str] = Counter()
    for exchange in FUNDING_VENUES:
        if exchange not in settings.CANDLE_SOURCES:
            continue
        times = [
            math.ceil(24 / (seen.get((item.pk, exchange)) or FUNDING_HOURS))
            for item in instruments
            if exchange in item.source_chain
            and listing_for(instrument=item, exchange=exchange, at=at) is not None
        ]
        # Some give the settlements of all symbols at once; the outlook always is for all.
        at_once = hasattr(VENUES[exchange].open_rest, "fetch_all_settlements")
        moments = max(times, default=0)
        calls[exchange] += (moments if at_once else sum(times)) + moments
    return calls
