"""CoinGecko: candles built from price samples, for coins that no exchange lists.

GET /coins/{id}/market_chart/range gives hourly samples in windows of up to 90 days and 5-minute
samples where the window begins within the last day
(https://docs.coingecko.com/reference/coins-id-market-chart-range), so the last day is asked for by
itself. Steps are irregular and points may repeat, so samples are sorted, deduplicated and bucketed.
Such a candle has no true high and low (`is_sampled`), and no volume: `total_volumes` is a rolling
24 h figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec

from collectors.budget import CallBudget
from collectors.exchange import (
    UNREADABLE,
    Connection,
    OutsidePlan,
    ProviderError,
    UnknownSymbol,
    moment_of,
    sample,
    status_error,
)
from collectors.marketdata import EPOCH, Candle, duration, floor_time, to_ms

NAME = "coingecko"
PUBLIC_URL = "https://api.coingecko.com/api/v3"
PRO_URL = "https://pro-api.coingecko.com/api/v3"
WINDOW = timedelta(days=89)
# Where the last day begins, when asked until an hour ago at the earliest: aligned, so that what a
# bar is made of hardly depends on the minute of asking, and 11 to 23 hours before the end.
FINE_STEP = timedelta(hours=12)
FINE_AT_LEAST = timedelta(hours=11)
SHORTEST_SAMPLED = timedelta(hours=1)
KEY_HEADERS = {"demo": "x-cg-demo-api-key", "pro": "x-cg-pro-api-key"}
OUTSIDE_PLAN = 10012


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """[epoch ms, price]; a price may be null."""

    at: int
    price: float | None


class MarketChart(msgspec.Struct, frozen=True):
    """The answer of market_chart; `market_caps` and `total_volumes` are not used."""

    prices: list[Sample]


class CoinGecko:
    """The candle source `coingecko`; its symbols are coin ids.

    The pro plan has a host of its own: it takes the place of the public one.
    """

    name = NAME

    def __init__(
        self, *, base_url: str, budget: CallBudget, timeout_s: float, plan: str, api_key: str
    ) -> None:
        headers = {KEY_HEADERS[plan]: api_key} if plan in KEY_HEADERS and api_key else {}
        self._connection = Connection(
            provider=NAME,
            base_url=plan_url(base_url, plan),
            budget=budget,
            timeout_s=timeout_s,
            read_error=read_error,
            headers=headers,
        )

    def fetch_candles(
        self, symbol: str, timeframe: str, start: datetime, end: datetime
    ) -> list[Candle]:
        """See `collectors.exchange.CandleSource`. Timeframes below an hour give nothing: the
        samples of past days are an hour apart."""
        if duration(timeframe) < SHORTEST_SAMPLED:
            return []
        samples: list[Sample] = []
        for since, until in windows(start, end):
            chart = self._connection.get(
                f"/coins/{symbol}/market_chart/range",
                {
                    "vs_currency": "usd",
                    "from": to_ms(since) // 1000,
                    "to": to_ms(until) // 1000,
                },
                into=MarketChart,
                endpoint="/coins/{id}/market_chart/range",
            )
            samples += chart.prices
        candles = sampled_candles(samples, timeframe)
        return [candle for candle in candles if start <= candle.open_time < end]


def plan_url(base_url: str, plan: str) -> str:
    """The address that a plan is served at: the pro plan has a host of its own."""
    return PRO_URL if plan == "pro" and base_url.rstrip("/") == PUBLIC_URL else base_url


def windows(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """[start, end) in the windows to ask for, oldest first, the finely sampled one last."""
    fine = EPOCH + ((end - FINE_AT_LEAST - EPOCH) // FINE_STEP) * FINE_STEP
    cursor = start
    while cursor < end:
        stop = min(cursor + WINDOW, end if cursor >= fine else fine)
        yield cursor, stop
        cursor = stop


def sampled_candles(samples: Iterable[Sample], timeframe: str) -> list[Candle]:
    """Candles from price samples in any order: one for each bar that holds a sample.

    Open is the first price in the bar, close the last, high and low the extremes. A point that
    repeats a time counts once. Raises MalformedPayload for a time that cannot be.
    """
    prices = {
        point.at: point.price
        for point in samples
        if point.price is not None and math.isfinite(point.price)
    }
    buckets: dict[datetime, list[float]] = {}
    for at in sorted(prices):
        buckets.setdefault(floor_time(moment_of(at), timeframe), []).append(prices[at])
    return [
        Candle(
            open_time=open_time,
            open=bucket[0],
            high=max(bucket),
            low=min(bucket),
            close=bucket[-1],
            volume=None,
            source=NAME,
            is_sampled=True,
        )
        for open_time, bucket in buckets.items()
    ]


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError | None:
    """The error of an answer, from any of the four shapes CoinGecko uses."""
    if status < 300:
        return None
    code, text = _refusal(body)
    if status == 404:
        return UnknownSymbol(f"coingecko: {text}")
    if code == OUTSIDE_PLAN:
        return OutsidePlan(f"coingecko: {text}")
    return status_error(status, headers, f"coingecko: {text}")


def _refusal(body: bytes) -> tuple[int, str]:
    """The error code (0: none) and text.

    The shapes: {"error": text}, {"status": number, "error": text},
    {"status": {"error_code", "error_message"}} and the same below "error".
    """
    try:
        answer = msgspec.json.decode(body)
    except UNREADABLE:
        return 0, sample(body)
    for outer in (answer, answer.get("error") if isinstance(answer, dict) else None):
        status = outer.get("status") if isinstance(outer, dict) else None
        if isinstance(status, dict):
            code = status.get("error_code")
            return (code if isinstance(code, int) else 0), str(status.get("error_message", ""))
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        return 0, str(answer["error"])
    return 0, sample(body)
