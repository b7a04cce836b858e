"""CoinGecko's REST client: which calls there are, and which door they go through."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import quote

import structlog

from collectors import clock
from collectors.budget import FREE_DOOR, CallBudget
from collectors.coingecko.payloads import (
    MarketChart,
    MarketRow,
    OhlcRow,
    Sample,
    read_error,
    vanished,
)
from collectors.coingecko.plans import PRO, Door, free_door, plan_door
from collectors.coingecko.samples import (
    NAME,
    ohlc_candles,
    ohlc_length,
    sampled_candles,
    windows,
)
from collectors.exchange import RETRY_PAUSE_S, Connection, KeyRefused, UnknownSymbol
from collectors.marketdata import Candle, duration, to_ms

log = structlog.get_logger(__name__)

SHORTEST_SAMPLED = timedelta(hours=1)
PAGE = 250
PRO_REST_S = 3600.0  # how long the free host answers after Pro has refused (wall time)

T = TypeVar("T")


class CoinGecko:
    """The candle source `coingecko`; its symbols are coin ids.

    When Pro refuses the key, the free host is asked without it, and Pro again an hour later.
    """

    name = NAME

    def __init__(
        self,
        *,
        base_url: str,
        budget: CallBudget,
        timeout_s: float,
        plan: str,
        api_key: str,
        retry_pause_s: float = RETRY_PAUSE_S,
    ) -> None:
        def connect(door: Door, provider: str = NAME) -> Connection:
            return Connection(
                provider=provider,
                base_url=door.base_url,
                budget=budget,
                timeout_s=timeout_s,
                read_error=read_error,
                headers=door.headers,
                retry_pause_s=retry_pause_s,
            )

        door = plan_door(base_url, plan, api_key)
        self._connection = connect(door)
        self._free = connect(free_door(door.base_url), FREE_DOOR) if plan == PRO else None
        self._pro_rests_until = 0.0

    def fetch_candles(
        self, symbol: str, timeframe: str, start: datetime, end: datetime
    ) -> list[Candle]:
        """See `collectors.exchange.CandleSource`. Timeframes below an hour give nothing: the
        samples of past days are an hour apart."""
        if duration(timeframe) < SHORTEST_SAMPLED:
            return []
        candles = sampled_candles(self.fetch_samples(symbol, start, end), timeframe)
        return [candle for candle in candles if start <= candle.open_time < end]

    def fetch_samples(self, coin_id: str, start: datetime, end: datetime) -> list[Sample]:
        """The price samples in about [start, end): some may lie outside, repeat, or come out of
        order. One call for the last day and one for each 89 days before. Raises ProviderError.
        """
        samples: list[Sample] = []
        for since, until in windows(start, end):
            chart = self._get(
                f"/coins/{_in_path(coin_id)}/market_chart/range",
                {
                    "vs_currency": "usd",
                    "from": to_ms(since) // 1000,
                    "to": to_ms(until) // 1000,
                },
                MarketChart,
                "/coins/{id}/market_chart/range",
            )
            samples += chart.prices
        return samples

    def fetch_recent_samples(self, coin_id: str, days: int) -> list[Sample]:
        """The price samples of the last `days`: one day in steps of 5 minutes, up to 90 hourly,
        above daily. As irregular as those of `fetch_samples`. Raises ProviderError."""
        chart = self._get(
            f"/coins/{_in_path(coin_id)}/market_chart",
            {"vs_currency": "usd", "days": days},
            MarketChart,
            "/coins/{id}/market_chart",
        )
        return chart.prices

    def fetch_ohlc(self, coin_id: str, days: int) -> list[Candle]:
        """The closed bars of the last `days` (1, 7, 14, 30, 90, 180 or 365), oldest first: up to 2
        days bars of 30 minutes, up to 30 of 4 hours, above of 4 days. Raises ProviderError."""
        rows = self._get(
            f"/coins/{_in_path(coin_id)}/ohlc",
            {"vs_currency": "usd", "days": days},
            list[OhlcRow],
            "/coins/{id}/ohlc",
        )
        return ohlc_candles(rows, ohlc_length(days), clock.now())

    def fetch_markets(self, coin_ids: Sequence[str]) -> list[MarketRow]:
        """The coins of these ids in the order of the answers, 250 with each call.

        Ids that CoinGecko does not know are missing from its answer without a word: they are
        logged, and `vanished` names them. Raises ProviderError; UnknownSymbol for an id that
        could not be sent as one.
        """
        wanted = list(dict.fromkeys(_listed(coin_id) for coin_id in coin_ids))
        rows: list[MarketRow] = []
        for first in range(0, len(wanted), PAGE):
            rows += self._markets({"ids": ",".join(wanted[first : first + PAGE])})
        if missing := vanished(wanted, rows):
            log.warning("coins_vanished", provider=NAME, coin_ids=missing)
        return rows

    def fetch_top(self, count: int) -> list[MarketRow]:
        """The first `count` coins by market cap, 250 with each call. Raises ProviderError."""
        rows: list[MarketRow] = []
        page = 1
        while len(rows) < count:
            size = min(count, PAGE)
            answered = self._markets({}, page=page, size=size)
            rows += answered
            if len(answered) < size:
                break
            page += 1
        return rows[:count]

    def _markets(
        self, params: Mapping[str, str], page: int = 1, size: int = PAGE
    ) -> list[MarketRow]:
        shown: dict[str, str | int] = {
            "vs_currency": "usd",
            "order": "market_cap_desc",
            "per_page": size,
            "page": page,
        }
        return self._get("/coins/markets", shown | dict(params), list[MarketRow], "/coins/markets")

    def _get(self, path: str, params: Mapping[str, str | int], into: type[T], endpoint: str) -> T:
        """GET through the plan's door, or through the free one after Pro has refused the key."""
        free = self._free
        if free is None:
            return self._connection.get(path, params, into=into, endpoint=endpoint)
        if time.monotonic() >= self._pro_rests_until:
            try:
                return self._connection.get(path, params, into=into, endpoint=endpoint)
            except KeyRefused as error:
                log.warning("pro_refused", provider=NAME, problem=str(error), rests_s=PRO_REST_S)
                self._pro_rests_until = time.monotonic() + PRO_REST_S
        return free.get(path, params, into=into, endpoint=endpoint)


def _listed(coin_id: str) -> str:
    """The id as it may stand in a list: a space in it would silently drop its neighbours."""
    name = coin_id.strip()
    if not name or any(mark.isspace() or mark == "," for mark in name):
        raise UnknownSymbol(f"coingecko: {coin_id!r} is no coin id")
    return name


def _in_path(coin_id: str) -> str:
    return quote(_listed(coin_id), safe="")
