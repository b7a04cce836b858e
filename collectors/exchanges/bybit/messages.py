"""What Bybit v5 pushes, linear and spot, and what it says; tickers have a module of their own.

https://bybit-exchange.github.io/docs/v5/ws/connect
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Generic, Literal, TypeVar

import msgspec

from collectors.exchange import UNREADABLE, MalformedPayload
from collectors.exchanges.bybit.books import BybitBook, decode_book
from collectors.feeds import (
    PublicTrade,
    StreamedCandle,
    Topic,
    Update,
    possible_candle,
)
from collectors.klines import KlineRow
from collectors.marketdata import Quote, from_ms
from collectors.readers import TopicReader
from collectors.venues import Identifier, Moment, Price

T = TypeVar("T")


class Message(msgspec.Struct, Generic[T], frozen=True):
    """What every topic's messages have around their data; `ts` is when the venue made it."""

    topic: str
    type: str
    ts: Moment
    data: T


class Answer(msgspec.Struct, frozen=True):
    """The answer to a request, which has no topic. `req_id` is the request's."""

    topic: str = ""
    success: bool = True
    op: str = ""
    req_id: str = ""
    ret_msg: str = ""


class TopLevel(msgspec.Struct, array_like=True, frozen=True):
    """The best level of a side, which nobody stands at with nothing."""

    price: Price
    quantity: Price


class Top(msgspec.Struct, frozen=True):
    """`data` of `orderbook.1.{symbol}`, always a snapshot: `u` update id, `b` bids, `a` asks."""

    s: str
    u: Identifier
    b: list[TopLevel]
    a: list[TopLevel]


class Bar(msgspec.Struct, frozen=True):
    """One element of a `kline.{interval}.{symbol}` message."""

    start: Moment
    interval: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    confirm: bool


class Trade(msgspec.Struct, frozen=True):
    """One element of a `publicTrade.{symbol}` message: `S` the taker's side, `v` quantity, `p`
    price, `i` id."""

    T: Moment
    s: str
    S: Literal["Buy", "Sell"]
    v: Price
    p: Price
    i: str


_tops = msgspec.json.Decoder(Message[Top], strict=False)
_klines = msgspec.json.Decoder(Message[list[Bar]], strict=False)
_trades = msgspec.json.Decoder(Message[list[Trade]], strict=False)


class BookReader(TopicReader):
    """The messages of a book, which is kept in step."""

    __slots__ = ("_book", "_changed")

    def __init__(self, topic: Topic, book: BybitBook) -> None:
        super().__init__(topic)
        self._book = book
        self._changed = (book,)

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        try:
            message = decode_book(raw)
        except UNREADABLE:
            self._book.malformed += 1
            raise
        if message.topic != self.name:
            self._book.malformed += 1
            self.check(message.topic, message.data.s)
        self._book.received_at = received_at
        return self._changed if self._book.take(message) else ()


class TopReader(TopicReader):
    """The top of a book; nothing while a side is empty."""

    __slots__ = ()

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        message = _tops.decode(raw)
        top = message.data
        self.check(message.topic, top.s)
        if not top.b or not top.a:
            return ()
        bid, ask = top.b[0], top.a[0]
        return (
            Quote(
                exchange=self.exchange,
                symbol=self.symbol,
                best_bid=bid.price,
                bid_quantity=bid.quantity,
                best_ask=ask.price,
                ask_quantity=ask.quantity,
                event_time=from_ms(message.ts),
                received_at=received_at,
                sequence=top.u,
            ),
        )


class CandleReader(TopicReader):
    """The bars of one timeframe: only one that is confirmed is a candle."""

    __slots__ = ("_interval", "_timeframe")

    def __init__(self, topic: Topic, *, timeframe: str, interval: str) -> None:
        super().__init__(topic)
        self._timeframe = timeframe
        self._interval = interval

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        message = _klines.decode(raw)
        self.check(message.topic, self.symbol)  # the bars themselves do not name it
        candles = []
        for bar in message.data:
            if bar.interval != self._interval:
                raise MalformedPayload(f"{self.exchange} {self.name}: a bar of {bar.interval[:99]}")
            if bar.confirm:
                row = KlineRow(bar.start, bar.open, bar.high, bar.low, bar.close, bar.volume)
                item = StreamedCandle(
                    self.exchange, self.symbol, self._timeframe, row.candle(self.exchange)
                )
                candles.append(possible_candle(item))
        return candles


class TradeReader(TopicReader):
    """Single trades, several in a message."""

    __slots__ = ()

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        message = _trades.decode(raw)
        found = []
        for trade in message.data:
            self.check(message.topic, trade.s)
            found.append(
                PublicTrade(
                    exchange=self.exchange,
                    symbol=self.symbol,
                    trade_id=trade.i,
                    price=trade.p,
                    quantity=trade.v,
                    side=trade.S.lower(),
                    traded_at=from_ms(trade.T),
                )
            )
        return found
