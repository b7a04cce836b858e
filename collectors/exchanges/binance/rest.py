"""Binance over REST: USD-M futures below /fapi/v1, spot below /api/v3, on hosts of their own
with limits of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypeVar

import msgspec

from collectors.budget import CallBudget
from collectors.exchange import RETRY_PAUSE_S, Connection
from collectors.exchanges.binance import weights
from collectors.exchanges.binance.payloads import (
    NAME,
    BookTickerRow,
    DayTickerRow,
    Depth,
    ExchangeInfo,
    FundingInfo,
    FundingRow,
    PremiumIndex,
    SymbolRow,
    read_error,
)
from collectors.exchanges.binance.weights import Weights
from collectors.klines import KlineRow
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

SPOT = "binance_spot"
INTERVALS: Mapping[str, str] = {name: name for name in ("1m", "5m", "15m", "1h", "4h", "1d")}
FUNDING_PAGE = 1000
QUOTE = "USDT"

T = TypeVar("T")


@dataclass(frozen=True)
class Market:
    """What differs between the two markets."""

    name: str
    prefix: str
    page: int
    weights: Weights
    listing: Mapping[str, str | int]
    contract: str


FUTURES_MARKET = Market(NAME, "/fapi/v1", 1500, weights.FUTURES, {}, "PERPETUAL")
# The whole list of spot is beyond any reasonable body: only what trades, without permissions.
SPOT_MARKET = Market(
    SPOT,
    "/api/v3",
    1000,
    weights.SPOT,
    {"showPermissionSets": "false", "symbolStatus": "TRADING"},
    "",
)


class _Rest:
    """What both markets serve."""

    market: ClassVar[Market]

    def __init__(
        self,
        *,
        base_url: str,
        budget: CallBudget,
        timeout_s: float,
        retry_pause_s: float = RETRY_PAUSE_S,
    ) -> None:
        self._connection = Connection(
            provider=self.market.name,
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
        step = duration(timeframe)
        candles: list[Candle] = []
        cursor = start
        while cursor < end:
            limit = min(self.market.page, (end - cursor) // step)
            if limit < 1:
                break
            params: dict[str, str | int] = {
                "symbol": symbol,
                "interval": INTERVALS[timeframe],
                "startTime": to_ms(cursor),
                "endTime": to_ms(end) - 1,
                "limit": limit,
            }
            weight = self.market.weights.klines(limit)
            rows = self._get("klines", params, list[KlineRow], weight)
            page = [row.candle(self.market.name) for row in rows]
            candles += [candle for candle in page if candle.open_time >= cursor]
            if len(rows) < limit:
                break
            cursor = max(cursor, *(candle.open_time for candle in page)) + step
        return candles

    def fetch_depth(self, symbol: str, limit: int = 100) -> DepthSnapshot:
        """The book down to `limit` levels (5, 10, 20, 50, 100, 500, 1000; spot to 5000). Raises
        ProviderError."""
        params: dict[str, str | int] = {"symbol": symbol, "limit": limit}
        answer = self._get("depth", params, Depth, self.market.weights.depth(limit))
        return answer.snapshot(self.market.name, symbol)

    def fetch_day_tickers(self) -> list[DayTicker]:
        """The rolling 24 hours of every symbol. Raises ProviderError."""
        weight = self.market.weights.day_ticker[1]
        rows = self._get("ticker/24hr", {}, list[DayTickerRow], weight)
        return [row.ticker(self.market.name) for row in rows]

    def fetch_book_tops(self) -> list[BookTop]:
        """The best quotes of every symbol that has both. Raises ProviderError."""
        weight = self.market.weights.book_ticker[1]
        rows = self._get("ticker/bookTicker", {}, list[BookTickerRow], weight)
        tops = (row.top(self.market.name) for row in rows)
        return [top for top in tops if top is not None]

    def fetch_symbols(self) -> list[ListedSymbol]:
        """See `collectors.venues.SymbolSource`; of futures the perpetuals. A row that does not
        parse is logged and left out: one odd symbol must not hide the others."""
        weight = self.market.weights.exchange_info
        answer = self._get("exchangeInfo", self.market.listing, ExchangeInfo, weight)
        return [
            row.listed(self.market.name)
            for row in readable_rows(self.market.name, answer.symbols, SymbolRow)
            if row.contractType == self.market.contract and row.quoteAsset == QUOTE
        ]

    def _get(self, name: str, params: Mapping[str, str | int], into: type[T], weight: int = 1) -> T:
        return self._connection.get(
            f"{self.market.prefix}/{name}", params, into=into, weight=weight
        )


class Binance(_Rest):
    """The candle source `binance`: USD-M perpetuals."""

    name = NAME
    market = FUTURES_MARKET

    def fetch_settlements(self, symbol: str, start: datetime, end: datetime) -> list[Settlement]:
        """See `collectors.venues.FundingSource`."""
        return self._settlements({"symbol": symbol}, start, end)

    def fetch_all_settlements(self, start: datetime, end: datetime) -> list[Settlement]:
        """The settlements of every symbol with start <= funding_time < end, oldest first: one
        call while there are under a thousand. Raises ProviderError."""
        return self._settlements({}, start, end)

    def _settlements(
        self, params: dict[str, str | int], start: datetime, end: datetime
    ) -> list[Settlement]:
        found: dict[tuple[datetime, str], Settlement] = {}
        cursor, stop = to_ms(start), to_ms(end)
        while cursor < stop:
            window = {"startTime": cursor, "endTime": stop - 1, "limit": FUNDING_PAGE}
            rows = self._get("fundingRate", params | window, list[FundingRow], weights.FUNDING)
            for row in rows:
                item = row.settlement()
                found[item.funding_time, item.symbol] = item
            if len(rows) < FUNDING_PAGE:
                break
            # More rows of the last moment may have been cut off.
            newest = max(row.fundingTime for row in rows)
            cursor = newest if newest > cursor else cursor + 1
        return [found[key] for key in sorted(found) if start <= key[0] < end]

    def fetch_outlooks(self) -> list[FundingOutlook]:
        """See `collectors.venues.FundingSource`."""
        rows = self._get("premiumIndex", {}, list[msgspec.Raw], weights.PREMIUM_INDEX_ALL)
        outlooks = (row.outlook() for row in readable_rows(NAME, rows, PremiumIndex))
        return [outlook for outlook in outlooks if outlook is not None]

    def fetch_funding_intervals(self) -> dict[str, int]:
        """The hours between settlements of the symbols whose terms are not the usual ones; all
        others settle every eight. Raises ProviderError."""
        rows = self._get("fundingInfo", {}, list[FundingInfo], weights.FUNDING)
        return {row.symbol: row.fundingIntervalHours for row in rows}


class BinanceSpot(_Rest):
    """The candle source `binance_spot`."""

    name = SPOT
    market = SPOT_MARKET
