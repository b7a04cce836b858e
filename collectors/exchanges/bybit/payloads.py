"""What Bybit v5 answers over REST. Numbers and times are text, a missing one is "", and errors
come as HTTP 200 with a retCode (https://bybit-exchange.github.io/docs/v5/error)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from collectors.exchange import (
    UNREADABLE,
    MalformedPayload,
    ProviderError,
    RateLimited,
    RequestRefused,
    ServerError,
    UnknownSymbol,
    retry_after,
    sample,
    status_error,
)
from collectors.klines import KlineRow
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
    settled_at,
)

NAME = "bybit"
PARAMETER_ERROR, RATE_LIMIT, SERVER_ERROR = 10001, 10006, 10016


class KlineResult(msgspec.Struct, frozen=True):
    """`result` of kline."""

    rows: list[KlineRow] = msgspec.field(name="list")


class KlineAnswer(msgspec.Struct, frozen=True):
    """The answer of kline."""

    result: KlineResult


class Book(msgspec.Struct, frozen=True):
    """`result` of orderbook: `u` update id, `b` bids, `a` asks."""

    s: str
    u: int
    b: tuple[Level, ...]
    a: tuple[Level, ...]

    def snapshot(self, exchange: str) -> DepthSnapshot:
        """The answer as a book."""
        return DepthSnapshot(
            exchange=exchange, symbol=self.s, sequence=self.u, bids=self.b, asks=self.a
        )


class BookAnswer(msgspec.Struct, frozen=True):
    """The answer of orderbook."""

    result: Book


class Rows(msgspec.Struct, frozen=True):
    """`result` of the calls that give a list; the cursor is "" on the last page."""

    rows: list[msgspec.Raw] = msgspec.field(name="list")
    nextPageCursor: str = ""


class RowsAnswer(msgspec.Struct, frozen=True):
    """The answer of the calls that give a list."""

    result: Rows


class TickerRow(msgspec.Struct, frozen=True):
    """One row of tickers, linear or spot. Amounts may be "" on a side that is empty, and the
    fields of funding are missing on spot and "" on dated contracts."""

    symbol: str
    lastPrice: str
    prevPrice24h: str
    highPrice24h: str
    lowPrice24h: str
    volume24h: str
    turnover24h: str
    bid1Price: str = ""
    bid1Size: str = ""
    ask1Price: str = ""
    ask1Size: str = ""
    markPrice: str = ""
    indexPrice: str = ""
    fundingRate: str = ""
    nextFundingTime: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a field that is no number."""
        self.ticker("")
        self.top("")
        self.outlook()

    def ticker(self, exchange: str) -> DayTicker:
        """The row as a ticker."""
        return DayTicker(
            exchange=exchange,
            symbol=self.symbol,
            last_price=_amount(self.lastPrice),
            open=_amount(self.prevPrice24h),
            high=_amount(self.highPrice24h),
            low=_amount(self.lowPrice24h),
            volume=_amount(self.volume24h),
            turnover=_amount(self.turnover24h),
        )

    def top(self, exchange: str) -> BookTop | None:
        """The row as the top of a book; None while a side is empty."""
        bid, ask = _amount(self.bid1Price), _amount(self.ask1Price)
        if not (bid and ask):
            return None
        return BookTop(
            exchange=exchange,
            symbol=self.symbol,
            best_bid=bid,
            bid_quantity=_amount(self.bid1Size),
            best_ask=ask,
            ask_quantity=_amount(self.ask1Size),
        )

    def outlook(self) -> FundingOutlook | None:
        """The row as an outlook; None for a contract without funding."""
        if not self.fundingRate or self.nextFundingTime in ("", "0"):
            return None
        return FundingOutlook(
            exchange=NAME,
            symbol=self.symbol,
            rate=msgspec.convert(self.fundingRate, type=Rate, strict=False),
            next_funding_time=settled_at(
                msgspec.convert(self.nextFundingTime, type=Moment, strict=False)
            ),
            mark_price=msgspec.convert(self.markPrice, type=Price, strict=False),
            index_price=msgspec.convert(self.indexPrice, type=Price, strict=False),
        )


class FundingRow(msgspec.Struct, frozen=True):
    """One row of funding/history."""

    symbol: str
    fundingRate: Rate
    fundingRateTimestamp: Moment

    def settlement(self) -> Settlement:
        """The row as a settlement; Bybit does not say at which mark price."""
        return Settlement(
            exchange=NAME,
            symbol=self.symbol,
            funding_time=settled_at(self.fundingRateTimestamp),
            rate=self.fundingRate,
            mark_price=None,
        )


class FundingResult(msgspec.Struct, frozen=True):
    """`result` of funding/history."""

    rows: list[FundingRow] = msgspec.field(name="list")


class FundingAnswer(msgspec.Struct, frozen=True):
    """The answer of funding/history, newest first."""

    result: FundingResult


class PriceFilter(msgspec.Struct, frozen=True):
    """The price grid of an instrument."""

    tickSize: str


class LotSizeFilter(msgspec.Struct, frozen=True):
    """The quantity grid: `qtyStep` and `minNotionalValue` on linear, `basePrecision` and
    `minOrderAmt` on spot."""

    qtyStep: str = ""
    basePrecision: str = ""
    minNotionalValue: str = ""
    minOrderAmt: str = ""


class InstrumentRow(msgspec.Struct, frozen=True):
    """One row of instruments-info; `contractType` is missing on spot."""

    symbol: str
    status: str
    baseCoin: str
    quoteCoin: str
    priceFilter: PriceFilter
    lotSizeFilter: LotSizeFilter
    contractType: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a grid that is none."""
        self.listed("")

    def listed(self, exchange: str) -> ListedSymbol:
        """The row as a listed symbol."""
        lot = self.lotSizeFilter
        return ListedSymbol(
            exchange=exchange,
            symbol=self.symbol,
            base_asset=self.baseCoin,
            quote_asset=self.quoteCoin,
            tick_size=grid(self.priceFilter.tickSize),
            quantity_step=grid(lot.qtyStep or lot.basePrecision),
            min_notional=grid(lot.minNotionalValue or lot.minOrderAmt),
            is_trading=self.status == "Trading",
        )


class ReturnCode(msgspec.Struct, frozen=True):
    """The part of every answer that says whether it is an error."""

    retCode: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
    retMsg: str = ""


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError | None:
    """The error of an answer: an HTTP status, or a retCode other than 0 in an answer of 200."""
    error = status_error(status, headers, f"bybit: {sample(body)}")
    if error is not None:
        return error
    try:
        code = msgspec.json.decode(body, type=ReturnCode)
    except UNREADABLE as problem:
        return MalformedPayload(f"bybit: {problem}: {sample(body)}")
    if code.retCode == 0:
        return None
    text = f"bybit: {code.retCode} {code.retMsg}"
    if code.retCode == RATE_LIMIT:
        return RateLimited(text, retry_after(headers))
    if code.retCode == SERVER_ERROR:
        return ServerError(text)
    if code.retCode == PARAMETER_ERROR and "symbol" in code.retMsg.lower():
        return UnknownSymbol(text)
    return RequestRefused(text)


def _amount(text: str) -> float:
    return msgspec.convert(text or "0", type=Amount, strict=False)
