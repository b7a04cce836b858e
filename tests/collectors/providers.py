"""Providers on loopback that answer as a test tells them to."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from collectors.marketdata import duration, from_ms, to_ms

Answer = tuple[int, dict[str, str], bytes]
Route = Callable[[dict[str, str]], Answer]
NOW = datetime(2025, 3, 3, 10, 30, tzinfo=UTC)


def json_answer(value: Any, status: int = 200, **headers: str) -> Answer:
    """An answer with a JSON body; header names are written with underscores."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return status, named, json.dumps(value).encode()


def observations(rows: list[tuple[str, str, str]], page: int) -> Route:
    """A route that cuts windows and pages as FRED does."""

    def route(params: dict[str, str]) -> Answer:
        start, end = params["realtime_start"], params["realtime_end"]
        shown = [
            {"realtime_start": max(first, start), "date": day, "value": value}
            for first, day, value in rows
            if first <= end and day >= params["observation_start"]
        ]
        offset = int(params["offset"])
        return json_answer({"count": len(shown), "observations": shown[offset : offset + page]})

    return route


@dataclass
class Provider:
    """Routes by path, and every request that came."""

    url: str
    routes: dict[str, Route] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def paths(self) -> list[str]:
        """The paths that were asked for, in order."""
        return [path for path, _ in self.requests]


@dataclass
class Venues:
    """Binance, Bybit and CoinGecko on one provider; candles by (venue, symbol, open time)."""

    provider: Provider
    bars: dict[tuple[str, str], dict[datetime, float]] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)

    def add(self, venue: str, symbol: str, start: datetime, end: datetime, price: float) -> None:
        """Give a venue hourly bars in [start, end) that all close at `price`."""
        bars = self.bars.setdefault((venue, symbol), {})
        moment = start
        while moment < end:
            bars[moment] = price
            moment += duration("1h")

    def calls(self, venue: str) -> int:
        """How often a venue was asked."""
        return sum(f"/{venue}/" in path for path in self.provider.paths())

    def binance(self, params: dict[str, str]) -> Answer:
        if "binance" in self.failing:
            return json_answer({"code": -1000, "msg": "unknown"}, 503)
        bars = self.bars.get(("binance", params["symbol"]))
        if bars is None:
            return json_answer({"code": -1121, "msg": "Invalid symbol."}, 400)
        start, end = from_ms(int(params["startTime"])), from_ms(int(params["endTime"]))
        times = sorted(moment for moment in bars if start <= moment <= end)
        rows = [
            [to_ms(at), *[str(bars[at])] * 4, "1.5", to_ms(at) + 3_599_999, "0", 1, "0", "0", "0"]
            for at in times[: int(params["limit"])]
        ]
        return json_answer(rows)

    def bybit(self, params: dict[str, str]) -> Answer:
        bars = self.bars.get(("bybit", params["symbol"]))
        if bars is None:
            return json_answer({"retCode": 10001, "retMsg": "Not supported symbols", "result": {}})
        start, end = from_ms(int(params["start"])), from_ms(int(params["end"]))
        times = sorted((moment for moment in bars if start <= moment <= end), reverse=True)
        rows = [[str(to_ms(at)), *[str(bars[at])] * 4, "2.5", "0"] for at in times]
        return json_answer({"retCode": 0, "retMsg": "OK", "result": {"list": rows}})

    def coingecko(self, params: dict[str, str]) -> Answer:
        bars = self.bars.get(("coingecko", "tether"), {})
        points = [[to_ms(at) + 60_000, price] for at, price in sorted(bars.items())]
        return json_answer({"prices": points, "market_caps": [], "total_volumes": []})
