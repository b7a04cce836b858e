"""Exchanges that settle funding, for the tests of it."""

from datetime import datetime, timedelta

from collectors.marketdata import from_ms, to_ms
from tests.collectors.providers import NOW, Answer, Venues, json_answer

HOUR = timedelta(hours=1)
LAST = NOW.replace(hour=8, minute=0)  # the settlement before NOW, 10:30


class Settling:
    """Both exchanges' funding: the times of settlements by symbol; Binance's wander."""

    def __init__(self, venues: Venues) -> None:
        self.provider = venues.provider
        self.times: dict[str, list[datetime]] = {}
        self.shown_until = NOW + 1000 * HOUR
        routes = venues.provider.routes
        routes["/binance/fapi/v1/fundingRate"] = self.binance
        routes["/binance/fapi/v1/premiumIndex"] = lambda _: json_answer(
            [
                {
                    "symbol": symbol,
                    "markPrice": "101.5",
                    "indexPrice": "101.4",
                    "lastFundingRate": "0.00020000",
                    "nextFundingTime": to_ms(LAST + 8 * HOUR),
                    "time": to_ms(NOW),
                }
                for symbol in self.times
            ]
        )
        routes["/bybit/v5/market/funding/history"] = self.bybit

    def every(self, hours: int, symbols: list[str], *, start: datetime, end: datetime) -> None:
        for symbol in symbols:
            times = self.times.setdefault(symbol, [])
            moment = start
            while moment < end:
                times.append(moment)
                moment += hours * HOUR

    def _within(self, symbols: list[str], start: str, end: str) -> list[tuple[datetime, str]]:
        low, high = from_ms(int(start)), min(from_ms(int(end)), self.shown_until)
        found = [(at, name) for name in symbols for at in self.times.get(name, [])]
        return sorted((at, name) for at, name in found if low <= at <= high)

    def binance(self, params: dict[str, str]) -> Answer:
        symbols = [params["symbol"]] if "symbol" in params else list(self.times)
        found = self._within(symbols, params["startTime"], params["endTime"])
        rows = [
            {
                "symbol": name,
                "fundingTime": to_ms(at) + 3,
                "fundingRate": "0.00010000",
                "markPrice": "100.5",
            }
            for at, name in found
        ]
        return json_answer(rows[: int(params["limit"])])

    def bybit(self, params: dict[str, str]) -> Answer:
        found = self._within([params["symbol"]], params["startTime"], params["endTime"])
        rows = [
            {
                "symbol": name,
                "fundingRate": "-0.0002",
                "fundingRateTimestamp": str(to_ms(at)),
            }
            for at, name in reversed(found)
        ]
        return json_answer({"retCode": 0, "retMsg": "OK", "result": {"list": rows[:200]}})

    def calls(self) -> list[str]:
        return [path.rpartition("/")[2] for path in self.provider.paths()]
