"""What Binance pushes, USD-M and spot, and what it says.

https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams
https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from collectors.exchange import UNREADABLE, MalformedPayload
from collectors.exchanges.binance.books import FuturesBook, SpotBook, decode_futures, decode_spot
from collectors.exchanges.binance.payloads import ErrorBody
from collectors.feeds import (
    MarkPrice,
    PublicTrade,
    StreamedCandle,
    Topic,
    Update,
    possible_candle,
)
from collectors.klines import KlineRow
from collectors.marketdata import Quote, from_ms
from collectors.readers import TopicReader
from collectors.venues import (
    Amount,
    DayTicker,
    Identifier,
    Moment,
    Price,
    Rate,
    price_or_none,
    settled_at,
)

MARKET_TRADE = "MARKET"

T = TypeVar("T")


class Message(msgspec.Struct, Generic[T], frozen=True):
    """What a combined stream wraps every event in."""

    stream: str
    data: T


class Answer(msgspec.Struct, frozen=True):
    """The answer to a request, which names no stream. A refusal has an `error`; older servers
    write its code and text beside the id."""

    stream: str = ""
    error: ErrorBody | None = None
    code: int = 0
    msg: str = ""

    @property
    def refusal(self) -> str:
        """Why the request is refused, "" when it is not."""
        if self.error is not None:
            return f"{self.error.code} {self.error.msg}"
        return f"{self.code} {self.msg}" if self.msg else ""


class SpotTop(msgspec.Struct, frozen=True):
    """`<symbol>@bookTicker`: `u` update id, b/B best bid and quantity, a/A best ask. Spot gives no
    time."""

    u: Identifier
    s: str
    b: Price
    B: Price
    a: Price
    A: Price


class Top(SpotTop, frozen=True, kw_only=True):
    """`<symbol>@bookTicker` of USD-M, with the time of the event."""

    E: Moment


class Bar(msgspec.Struct, frozen=True):
    """The `k` of a kline event. `t` open time, `i` interval, `x` whether the bar is closed."""

    t: Moment
    i: str
    o: float
    h: float
    l: float  # noqa: E741 (the venue's own field name)
    c: float
    v: float
    x: bool


class Kline(msgspec.Struct, frozen=True):
    """`<symbol>@kline_<interval>`."""

    s: str
    k: Bar


class Mark(msgspec.Struct, frozen=True):
    """`<symbol>@markPrice@1s`: `p` mark price, `i` index price, `r` rate of the settlement at `T`.
    A dated contract says "" and time 0."""

    s: str
    E: Moment
    p: Price
    r: str
    T: Moment
    i: str = ""


class Ticker(msgspec.Struct, frozen=True):
    """`<symbol>@ticker`: last price, open, high, low, volume and turnover of a rolling day. A
    symbol that has not traded shows zeros."""

    s: str
    c: Amount
    o: Amount
    h: Amount
    l: Amount  # noqa: E741 (the venue's own field name)
    v: Amount
    q: Amount


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """`<symbol>@trade`. `m` says that the buyer was there first, so that the seller took; `X` says
    what kind of trade it was, where the venue says it. Those of the insurance fund and the like
    may have neither price nor quantity."""

    s: str
    t: Identifier
    p: Amount
    q: Amount
    T: Moment
    m: bool
    X: str = MARKET_TRADE


class AggregateTrade(msgspec.Struct, frozen=True, kw_only=True):
    """`<symbol>@aggTrade`: what one order took at one price."""

    s: str
    a: Identifier
    p: Amount
    q: Amount
    T: Moment
    m: bool
    X: str = MARKET_TRADE


_spot_tops = msgspec.json.Decoder(Message[SpotTop], strict=False)
_tops = msgspec.json.Decoder(Message[Top], strict=False)
_klines = msgspec.json.Decoder(Message[Kline], strict=False)
_marks = msgspec.json.Decoder(Message[Mark], strict=False)
_tickers = msgspec.json.Decoder(Message[Ticker], strict=False)
_trades = msgspec.json.Decoder(Message[Trade], strict=False)
_aggregates = msgspec.json.Decoder(Message[AggregateTrade], strict=False)


class DiffReader(TopicReader):
    """The diffs of a book, which is kept in step."""

    __slots__ = ("_book", "_changed", "_decode", "_take")

    def __init__(self, topic: Topic, book: SpotBook | FuturesBook) -> None:
        super().__init__(topic)
        self._book = book
        self._changed = (book,)
        self._decode = decode_spot if isinstance(book, SpotBook) else decode_futures
        self._take: Callable[[Any], bool] = book.take

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        try:
            message = self._decode(raw)
        except UNREADABLE:
            self._book.malformed += 1
            raise
        if message.stream != self.name:
            self._book.malformed += 1
            self.check(message.stream, message.data.s)
        self._book.received_at = received_at
        return self._changed if self._take(message.data) else ()


class TopReader(TopicReader):
    """The top of a USD-M book."""

    __slots__ = ()

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        message = _tops.decode(raw)
        return (self.quote(message.stream, message.data, from_ms(message.data.E), received_at),)

    def quote(self, stream: str, top: SpotTop, at: datetime, received_at: datetime) -> Quote:
        """The event as a quote. Raises MalformedPayload for another symbol's."""
        self.check(stream, top.s)
        return Quote(
            exchange=self.exchange,
            symbol=self.symbol,
            best_bid=top.b,
            bid_quantity=top.B,
            best_ask=top.a,
            ask_quantity=top.A,
            event_time=at,
            received_at=received_at,
            sequence=top.u,
        )


class SpotTopReader(TopReader):
    """The top of a spot book, which happened when it was heard of."""

    __slots__ = ()

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        message = _spot_tops.decode(raw)
        return (self.quote(message.stream, message.data, received_at, received_at),)


class CandleReader(TopicReader):
    """The bars of one timeframe: only one that is closed is a candle."""

    __slots__ = ("_interval", "_timeframe")

    def __init__(self, topic: Topic, *, timeframe: str, interval: str) -> None:
        super().__init__(topic)
        self._timeframe = timeframe
        self._interval = interval

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        message = _klines.decode(raw)
        self.check(message.stream, message.data.s)
        bar = message.data.k
        if bar.i != self._interval:
            raise MalformedPayload(f"{self.exchange} {self.name}: a bar of {bar.i[:100]}")
        if not bar.x:
            return ()
        row = KlineRow(bar.t, bar.o, bar.h, bar.l, bar.c, bar.v)
        candle = row.candle(self.exchange)
        return (
            possible_candle(StreamedCandle(self.exchange, self.symbol, self._timeframe, candle)),
        )


class MarkReader(TopicReader):
    """Mark price and funding; nothing of a contract without funding."""

    __slots__ = ()

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        message = _marks.decode(raw)
        mark = message.data
        self.check(message.stream, mark.s)
        index_price = price_or_none(mark.i)
        if not mark.r or not mark.T:
            return ()
        return (
            MarkPrice(
                exchange=self.exchange,
                symbol=self.symbol,
                mark_price=mark.p,
                index_price=index_price,
                funding_rate=msgspec.convert(mark.r, type=Rate, strict=False),
                next_funding_time=settled_at(mark.T),
                event_time=from_ms(mark.E),
                received_at=received_at,
            ),
        )


class TickerReader(TopicReader):
    """The last 24 hours."""

    __slots__ = ()

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        message = _tickers.decode(raw)
        day = message.data
        self.check(message.stream, day.s)
        return (
            DayTicker(
                exchange=self.exchange,
                symbol=self.symbol,
                last_price=day.c,
                open=day.o,
                high=day.h,
                low=day.l,
                volume=day.v,
                turnover=day.q,
            ),
        )


class TradeReader(TopicReader):
    """Single trades."""

    __slots__ = ()

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        message = _trades.decode(raw)
        self.check(message.stream, message.data.s)
        return self.trades(message.data, message.data.t)

    def trades(self, trade: Trade | AggregateTrade, number: int) -> Sequence[Update]:
        """The event as a trade; none when it was not the market's. Raises MalformedPayload for a
        trade of nothing."""
        if trade.X != MARKET_TRADE:
            return ()
        if not (trade.p and trade.q):
            raise MalformedPayload(f"{self.exchange} {self.name}: a trade of nothing: {trade}")
        return (
            PublicTrade(
                exchange=self.exchange,
                symbol=self.symbol,
                trade_id=str(number),
                price=trade.p,
                quantity=trade.q,
                side="sell" if trade.m else "buy",
                traded_at=from_ms(trade.T),
            ),
        )


class AggregateTradeReader(TradeReader):
    """Trades, those of one order at one price together."""

    __slots__ = ()

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        message = _aggregates.decode(raw)
        self.check(message.stream, message.data.s)
        return self.trades(message.data, message.data.a)
