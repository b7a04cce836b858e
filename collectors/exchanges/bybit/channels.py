"""Bybit v5 linear perpetuals over WebSocket: candles and top of book.

`orderbook.1` sends whole snapshots and repeats them; a kline is final when `confirm` is true; a
ping is due every 20 seconds (https://bybit-exchange.github.io/docs/v5/ws/connect).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from collectors.exchange import UNREADABLE, MalformedPayload, moment_of, sample
from collectors.exchanges.bybit.payloads import NAME
from collectors.exchanges.bybit.rest import INTERVALS, LINEAR_CATEGORY
from collectors.klines import KlineRow
from collectors.marketdata import Candle, Quote
from collectors.stream import Channel, StreamedCandle, Update, possible

TIMEFRAMES_BY_INTERVAL = {interval: name for name, interval in INTERVALS.items()}
PING_INTERVAL_S = 20.0


class StreamKline(msgspec.Struct, frozen=True):
    """One element of a `kline.{interval}.{symbol}` message."""

    start: int
    interval: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    confirm: bool

    def candle(self) -> Candle:
        """The bar as a candle."""
        row = KlineRow(self.start, self.open, self.high, self.low, self.close, self.volume)
        return row.candle(NAME)


class Level(msgspec.Struct, array_like=True, frozen=True):
    """One price level of a book."""

    price: float
    quantity: float


class BookTop(msgspec.Struct, frozen=True):
    """`data` of `orderbook.1.{symbol}`: `u` update id, `b` bids, `a` asks."""

    s: str
    u: int
    b: list[Level]
    a: list[Level]


class Envelope(msgspec.Struct, frozen=True):
    """A topic message, or the answer to a request (`success`, no topic)."""

    topic: str = ""
    ts: int = 0
    data: msgspec.Raw = msgspec.Raw(b"null")
    success: bool = True
    ret_msg: str = ""


_envelopes = msgspec.json.Decoder(Envelope, strict=False)
_klines = msgspec.json.Decoder(list[StreamKline], strict=False)
_tops = msgspec.json.Decoder(BookTop, strict=False)


def stream_channels(
    ws_url: str, *, candles: Sequence[tuple[str, str]], quotes: Sequence[str]
) -> list[Channel]:
    """One connection for the quotes of `quotes` (symbols) and one for the (symbol, timeframe)
    pairs of `candles`."""
    url = f"{ws_url}/{LINEAR_CATEGORY}"
    tops = [f"orderbook.1.{symbol}" for symbol in quotes]
    klines = [f"kline.{INTERVALS[frame]}.{symbol}" for symbol, frame in candles]
    groups = (("bybit quotes", tops), ("bybit candles", klines))
    return [
        Channel(
            name=name,
            url=url,
            requests=_requests(topics),
            ping='{"op":"ping"}',
            ping_interval_s=PING_INTERVAL_S,
        )
        for name, topics in groups
        if topics
    ]


def _requests(topics: Sequence[str]) -> tuple[str, ...]:
    """One request for each topic: a symbol that the venue does not know fails its request whole."""
    return tuple(
        msgspec.json.encode({"op": "subscribe", "req_id": topic, "args": [topic]}).decode()
        for topic in topics
    )


def read_message(raw: bytes, received_at: datetime) -> Sequence[Update]:
    """The updates in one message: a quote, closed candles, or nothing.

    Raises MalformedPayload when it does not parse or cannot be true, and for a refused
    subscription.
    """
    try:
        envelope = _envelopes.decode(raw)
        if not envelope.success:
            raise MalformedPayload(f"bybit refuses a subscription: {envelope.ret_msg}")
        if envelope.topic.startswith("orderbook.1."):
            return _quote(_tops.decode(envelope.data), moment_of(envelope.ts), received_at)
        if envelope.topic.startswith("kline."):
            symbol = envelope.topic.rpartition(".")[2]
            return [
                possible(
                    StreamedCandle(NAME, symbol, TIMEFRAMES_BY_INTERVAL[bar.interval], bar.candle())
                )
                for bar in _klines.decode(envelope.data)
                if bar.confirm
            ]
    except UNREADABLE as problem:
        raise MalformedPayload(f"bybit stream: {problem}: {sample(raw)}") from problem
    return ()


def _quote(top: BookTop, event_time: datetime, received_at: datetime) -> Sequence[Update]:
    """The top of book as a quote; none while one side is empty."""
    if not top.b or not top.a:
        return ()
    quote = Quote(
        exchange=NAME,
        symbol=top.s,
        best_bid=top.b[0].price,
        bid_quantity=top.b[0].quantity,
        best_ask=top.a[0].price,
        ask_quantity=top.a[0].quantity,
        event_time=event_time,
        received_at=received_at,
        sequence=top.u,
    )
    return (possible(quote),)
