"""What Binance answers over REST, USD-M and spot alike but for a few fields."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from collectors.exchange import (
    UNREADABLE,
    ProviderError,
    UnknownSymbol,
    sample,
    status_error,
)
from collectors.venues import (
    Amount,
    BookTop,
    DayTicker,
    DepthSnapshot,
    FundingOutlook,
    Level,
    ListedSymbol,
    Moment,
    Price,
    Rate,
    Settlement,
    grid,
    price_or_none,
    settled_at,
)

NAME = "binance"
INVALID_SYMBOL = -1121
UNKNOWN_STATUS = 400


class ErrorBody(msgspec.Struct, frozen=True):
    """{"code": -1121, "msg": "Invalid symbol."}"""

    code: int = 0
    msg: str = ""


class Depth(msgspec.Struct, frozen=True):
    """The answer of depth."""

    lastUpdateId: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]

    def snapshot(self, exchange: str, symbol: str) -> DepthSnapshot:
        """The answer as a book."""
        return DepthSnapshot(
            exchange=exchange,
            symbol=symbol,
            sequence=self.lastUpdateId,
            bids=self.bids,
            asks=self.asks,
        )


class PremiumIndex(msgspec.Struct, frozen=True):
    """One row of premiumIndex. `lastFundingRate` is that of the settlement to come. Quarterly
    contracts say "" and time 0."""

    symbol: str
    markPrice: Price
    indexPrice: Price
    lastFundingRate: str
    nextFundingTime: Moment
    time: Moment

    def __post_init__(self) -> None:
        """Raises ValueError for a rate that is no number."""
        if self.lastFundingRate:
            msgspec.convert(self.lastFundingRate, type=Rate, strict=False)

    def outlook(self) -> FundingOutlook | None:
        """The row as an outlook; None for a contract without funding."""
        if not self.lastFundingRate or not self.nextFundingTime:
            return None
        return FundingOutlook(
            exchange=NAME,
            symbol=self.symbol,
            rate=float(self.lastFundingRate),
            next_funding_time=settled_at(self.nextFundingTime),
            mark_price=self.markPrice,
            index_price=self.indexPrice,
        )


class FundingRow(msgspec.Struct, frozen=True):
    """One row of fundingRate; `markPrice` is "" in early history."""

    symbol: str
    fundingTime: Moment
    fundingRate: Rate
    markPrice: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a mark price that is none."""
        price_or_none(self.markPrice)

    def settlement(self) -> Settlement:
        """The row as a settlement."""
        return Settlement(
            exchange=NAME,
            symbol=self.symbol,
            funding_time=settled_at(self.fundingTime),
            rate=self.fundingRate,
            mark_price=price_or_none(self.markPrice),
        )


class FundingInfo(msgspec.Struct, frozen=True):
    """One row of fundingInfo, which lists the symbols whose terms are not the usual ones."""

    symbol: str
    fundingIntervalHours: int = 8


class DayTickerRow(msgspec.Struct, frozen=True):
    """One row of ticker/24hr. A symbol that has not traded shows zeros."""

    symbol: str
    lastPrice: Amount
    openPrice: Amount
    highPrice: Amount
    lowPrice: Amount
    volume: Amount
    quoteVolume: Amount

    def ticker(self, exchange: str) -> DayTicker:
        """The row as a ticker."""
        return DayTicker(
            exchange=exchange,
            symbol=self.symbol,
            last_price=self.lastPrice,
            open=self.openPrice,
            high=self.highPrice,
            low=self.lowPrice,
            volume=self.volume,
            turnover=self.quoteVolume,
        )


class BookTickerRow(msgspec.Struct, frozen=True):
    """One row of ticker/bookTicker. An empty side shows zeros."""

    symbol: str
    bidPrice: Amount
    bidQty: Amount
    askPrice: Amount
    askQty: Amount

    def top(self, exchange: str) -> BookTop | None:
        """The row as the top of a book; None while a side is empty."""
        if not (self.bidPrice and self.askPrice):
            return None
        return BookTop(
            exchange=exchange,
            symbol=self.symbol,
            best_bid=self.bidPrice,
            bid_quantity=self.bidQty,
            best_ask=self.askPrice,
            ask_quantity=self.askQty,
        )


class Filter(msgspec.Struct, frozen=True):
    """One trading rule. The smallest notional is `notional` on USD-M and `minNotional` on spot."""

    filterType: str
    tickSize: str = ""
    stepSize: str = ""
    notional: str = ""
    minNotional: str = ""


class SymbolRow(msgspec.Struct, frozen=True):
    """One symbol of exchangeInfo; `contractType` is "" on spot."""

    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    filters: list[Filter]
    contractType: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a grid that is none."""
        self.listed("")

    def listed(self, exchange: str) -> ListedSymbol:
        """The row as a listed symbol."""
        rules = {rule.filterType: rule for rule in self.filters}
        missing = Filter("")
        least = rules.get("NOTIONAL") or rules.get("MIN_NOTIONAL") or missing
        return ListedSymbol(
            exchange=exchange,
            symbol=self.symbol,
            base_asset=self.baseAsset,
            quote_asset=self.quoteAsset,
            tick_size=grid(rules.get("PRICE_FILTER", missing).tickSize),
            quantity_step=grid(rules.get("LOT_SIZE", missing).stepSize),
            min_notional=grid(least.notional or least.minNotional),
            is_trading=self.status == "TRADING",
        )


class ExchangeInfo(msgspec.Struct, frozen=True):
    """The answer of exchangeInfo. Its serverTime may be cached and is not used."""

    symbols: list[msgspec.Raw]


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError | None:
    """The error of an answer: `{"code", "msg"}` with a status of 4xx or 5xx, and should it ever
    come with 200."""
    inside = status < 300
    if inside and not body[:16].lstrip().startswith(b'{"code"'):
        return None
    try:
        refusal = msgspec.json.decode(body, type=ErrorBody)
        text = f"{refusal.code} {refusal.msg}"
    except UNREADABLE:
        refusal, text = ErrorBody(), sample(body)
    if inside and refusal.code >= 0:
        return None
    if refusal.code == INVALID_SYMBOL:
        return UnknownSymbol(f"binance: {text}")
    return status_error(UNKNOWN_STATUS if inside else status, headers, f"binance: {text}")
