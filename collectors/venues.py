"""What an exchange says of its market besides candles and live quotes. Pure.

Prices and rates are the venue's strings parsed as doubles; grids stay decimal strings.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Protocol, runtime_checkable

import msgspec

from collectors.marketdata import EPOCH, from_ms

MINUTE = timedelta(minutes=1)
END_OF_TIME_MS = 4_102_444_800_000  # the year 2100: what lies beyond is no timestamp

# Types of payload fields; a value outside fails the payload while it is decoded.
Moment = Annotated[int, msgspec.Meta(ge=0, lt=END_OF_TIME_MS)]  # epoch milliseconds
Price = Annotated[float, msgspec.Meta(gt=0, lt=1e300)]
Amount = Annotated[float, msgspec.Meta(ge=0, lt=1e300)]
Rate = Annotated[float, msgspec.Meta(gt=-100, lt=100)]
Identifier = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
# What a book may hold: the bounds keep every sum of notionals finite.
BookPrice = Annotated[float, msgspec.Meta(gt=0, lt=1e15)]
BookQuantity = Annotated[float, msgspec.Meta(ge=0, lt=1e24)]


class ListedSymbol(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol in an exchange's list of instruments. `tick_size` (quote units),
    `quantity_step` (base units) and `min_notional` (quote units) are decimal strings."""

    exchange: str
    symbol: str
    base_asset: str
    quote_asset: str
    tick_size: str
    quantity_step: str
    min_notional: str
    is_trading: bool


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """One funding settlement: `rate` is what longs paid to shorts, a share of the notional.
    `funding_time` is the venue's own, to the minute: its milliseconds wander."""

    exchange: str
    symbol: str
    funding_time: datetime
    rate: float
    mark_price: float | None


class FundingOutlook(msgspec.Struct, frozen=True, kw_only=True):
    """The rate that the next settlement would have if it were now."""

    exchange: str
    symbol: str
    rate: float
    next_funding_time: datetime
    mark_price: float
    index_price: float


class DayTicker(msgspec.Struct, frozen=True, kw_only=True):
    """The last 24 hours of a symbol, a rolling window: `volume` in base, `turnover` in quote
    units. Never a candle."""

    exchange: str
    symbol: str
    last_price: float
    open: float
    high: float
    low: float
    volume: float
    turnover: float


class BookTop(msgspec.Struct, frozen=True, kw_only=True):
    """The best bid and ask of a symbol at the moment of asking."""

    exchange: str
    symbol: str
    best_bid: float
    bid_quantity: float
    best_ask: float
    ask_quantity: float


class Level(msgspec.Struct, array_like=True, frozen=True):
    """One price level of a book."""

    price: Price
    quantity: Amount


class DepthSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A book as of `sequence`, the venue's own update id; both sides best first."""

    exchange: str
    symbol: str
    sequence: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


@runtime_checkable
class FundingSource(Protocol):
    """A venue that settles funding."""

    def fetch_settlements(self, symbol: str, start: datetime, end: datetime) -> list[Settlement]:
        """The settlements with start <= funding_time < end, oldest first. Raises ProviderError."""

    def fetch_outlooks(self) -> list[FundingOutlook]:
        """The outlook of every perpetual. Raises ProviderError."""


@runtime_checkable
class EverybodysFunding(Protocol):
    """A venue that gives the settlements of all its symbols together."""

    def fetch_all_settlements(self, start: datetime, end: datetime) -> list[Settlement]:
        """The settlements of every symbol with start <= funding_time < end, oldest first. Raises
        ProviderError."""


@runtime_checkable
class SymbolSource(Protocol):
    """A venue that lists its symbols."""

    def fetch_symbols(self) -> list[ListedSymbol]:
        """Every symbol that is quoted in USDT, spot or perpetual. Raises ProviderError."""


@runtime_checkable
class DepthSource(Protocol):
    """A venue that gives its books over REST."""

    def fetch_depth(self, symbol: str, limit: int) -> DepthSnapshot:
        """The book down to `limit` levels of each side. Raises ProviderError."""


def settled_at(milliseconds: int) -> datetime:
    """The minute of a funding time."""
    moment = from_ms(milliseconds)
    return moment - ((moment - EPOCH) % MINUTE)


def grid(text: str) -> str:
    """A tick, a step or a notional as a plain decimal string without needless zeros. Raises
    ValueError for what is none."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is no decimal") from None
    if not value.is_finite() or value <= 0 or len(text) > 40:
        raise ValueError(f"{text!r} is no size")
    return f"{value.normalize():f}"


def price_or_none(text: str) -> float | None:
    """The number of a text that may be empty. Raises ValueError for what is no price."""
    if not text:
        return None
    return msgspec.convert(text, type=Price, strict=False)
