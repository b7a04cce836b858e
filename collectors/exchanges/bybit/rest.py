"""Bybit v5 over REST: the linear and the spot category of one host, with one limit for both.

kline gives at most 1000 bars, newest first, and may include the forming one
(https://bybit-exchange.github.io/docs/v5/market/kline).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, TypeVar

from collectors.budget import CallBudget
from collectors.exchange import RETRY_PAUSE_S, Connection, MalformedPayload
from collectors.exchanges.bybit.payloads import (
    NAME,
    BookAnswer,
    FundingAnswer,
    InstrumentRow,
    KlineAnswer,
    RowsAnswer,
    TickerRow,
    read_error,
)
from collectors.marketdata import Candle, duration, to_ms
from collectors.rows import readable_rows
from collectors.venues import (
    BookTop,
    DayTicker,
    DepthSnapshot,
    FundingOutlook,
    ListedSymbol,
    Settlement,
)

SPOT = "bybit_spot"
LINEAR_CATEGORY, SPOT_CATEGORY = "linear", "spot"
INTERVALS: Mapping[str, str] = {
    "1m": "1",
    "5m": "5",
    "15m": "15",
    "1h": "60",
    "4h": "240",
    "1d": "D",
}
PAGE, FUNDING_PAGE = 1000, 200
MOST_PAGES = 50
QUOTE = "USDT"

T = TypeVar("T")


class _Rest:
    """What both categories serve."""

    name: str
    category: ClassVar[str]
    contract: ClassVar[str]

    def __init__(
        self,
        *,
        base_url: str,
        budget: CallBudget,
        timeout_s: float,
        retry_pause_s: float = RETRY_PAUSE_S,
    ) -> None:
        self._connection = Connection(
            provider=NAME,
            base_url=base_url,
            budget=budget,
            timeout_s=timeout_s,
            read_error=read_error,
            retry_pause_s=retry_pause_s,
        )

    def fetch_candles(
        self, symbol: str, timeframe: str, start: datetime, end: datetime
    ) -> list[Candle]:
        """See `collectors.exchange.CandleSource`."""
        page = PAGE * duration(timeframe)
        candles: list[Candle] = []
        cursor = start
        while cursor < end:
            stop = min(cursor + page, end)
            params: dict[str, str | int] = {
                "symbol": symbol,
                "interval": INTERVALS[timeframe],
                "start": to_ms(cursor),
                "end": to_ms(stop) - 1,
                "limit": PAGE,
            }
            for row in reversed(self._get("kline", params, KlineAnswer).result.rows):
                candle = row.candle(self.name)
                # What lies after a page is the next page's; after the last, nobody asked for it.
                if cursor <= candle.open_time and (candle.open_time < stop or stop == end):
                    candles.append(candle)
            cursor = stop
        return candles

    def fetch_depth(self, symbol: str, limit: int = 50) -> DepthSnapshot:
        """The book down to `limit` levels (at most 500 linear, 200 spot). Raises
        ProviderError."""
        answer = self._get("orderbook", {"symbol": symbol, "limit": limit}, BookAnswer)
        return answer.result.snapshot(self.name)

    def fetch_day_tickers(self) -> list[DayTicker]:
        """The rolling 24 hours of every symbol. Raises ProviderError."""
        return [row.ticker(self.name) for row in self._tickers()]

    def fetch_book_tops(self) -> list[BookTop]:
        """The best quotes of every symbol that has both. Raises ProviderError."""
        tops = (row.top(self.name) for row in self._tickers())
        return [top for top in tops if top is not None]

    def fetch_symbols(self) -> list[ListedSymbol]:
        """See `collectors.venues.SymbolSource`; of linear contracts the perpetuals."""
        found: list[ListedSymbol] = []
        params: dict[str, str | int] = {"limit": PAGE}
        for _ in range(MOST_PAGES):
            result = self._get("instruments-info", params, RowsAnswer).result
            found += [
                row.listed(self.name)
                for row in readable_rows(self.name, result.rows, InstrumentRow)
                if row.contractType == self.contract and row.quoteCoin == QUOTE
            ]
            if not result.nextPageCursor:
                return found
            params = {"limit": PAGE, "cursor": result.nextPageCursor}
        raise MalformedPayload(f"{self.name}: a list of instruments without an end")

    def _tickers(self) -> list[TickerRow]:
        rows = self._get("tickers", {}, RowsAnswer).result.rows
        return readable_rows(self.name, rows, TickerRow)

    def _get(self, call: str, params: Mapping[str, str | int], into: type[T]) -> T:
        shown = {"category": self.category} | dict(params)
        return self._connection.get(f"/v5/market/{call}", shown, into=into)


class Bybit(_Rest):
    """The candle source `bybit`: linear perpetuals."""

    name = NAME
    category = LINEAR_CATEGORY
    contract = "LinearPerpetual"

    def fetch_settlements(self, symbol: str, start: datetime, end: datetime) -> list[Settlement]:
        """See `collectors.venues.FundingSource`."""
        found: dict[datetime, Settlement] = {}
        first, last = to_ms(start), to_ms(end) - 1
        while first <= last:
            params: dict[str, str | int] = {
                "symbol": symbol,
                "startTime": first,
                "endTime": last,
                "limit": FUNDING_PAGE,
            }
            rows = self._get("funding/history", params, FundingAnswer).result.rows
            for row in rows:
                item = row.settlement()
                found[item.funding_time] = item
            if len(rows) < FUNDING_PAGE:
                break
            last = min(last, min(row.fundingRateTimestamp for row in rows)) - 1
        return [found[moment] for moment in sorted(found) if start <= moment < end]

    def fetch_outlooks(self) -> list[FundingOutlook]:
        """See `collectors.venues.FundingSource`."""
        outlooks = (row.outlook() for row in self._tickers())
        return [outlook for outlook in outlooks if outlook is not None]


class BybitSpot(_Rest):
    """The candle source `bybit_spot`."""

    name = SPOT
    category = SPOT_CATEGORY
    contract = ""
