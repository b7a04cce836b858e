"""Bybit v5 linear perpetuals: candles over REST, candles and top of book over WebSocket.

REST: GET /v5/market/kline, at most 1000 bars, newest first, may include the forming bar; errors
come as HTTP 200 with a retCode (https://bybit-exchange.github.io/docs/v5). Streams: `orderbook.1`
sends whole snapshots and repeats them; a kline is final when `confirm` is true; a ping is due
every 20 seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from collectors.budget import CallBudget
from collectors.exchange import (
    UNREADABLE,
    Connection,
    MalformedPayload,
    ProviderError,
    RateLimited,
    RequestRefused,
    ServerError,
    UnknownSymbol,
    moment_of,
    sample,
    status_error,
)
from collectors.marketdata import Candle, Quote, duration, to_ms
from collectors.stream import Channel, StreamedCandle, Update, possible

NAME = "bybit"
CATEGORY = "linear"
INTERVALS: Mapping[str, str] = {
    "1m": "1",
    "5m": "5",
    "15m": "15",
    "1h": "60",
    "4h": "240",
    "1d": "D",
}
TIMEFRAMES_BY_INTERVAL = {interval: name for name, interval in INTERVALS.items()}
PAGE = 1000
PING_INTERVAL_S = 20.0
PARAMETER_ERROR, RATE_LIMIT, SERVER_ERROR = 10001, 10006, 10016


class KlineRow(msgspec.Struct, array_like=True, frozen=True):
    """One bar of GET /v5/market/kline; the turnover after the volume is not used."""

    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    def candle(self) -> Candle:
        """The bar as a candle."""
        return Candle(
            open_time=moment_of(self.start),
            open=self.open,
            high=self.high,
            low=self.low,
            close=self.close,
            volume=self.volume,
            source=NAME,
        )


class KlineResult(msgspec.Struct, frozen=True):
    """`result` of GET /v5/market/kline."""

    rows: list[KlineRow] = msgspec.field(name="list")


class KlineAnswer(msgspec.Struct, frozen=True):
    """The answer of GET /v5/market/kline."""

    result: KlineResult


class ReturnCode(msgspec.Struct, frozen=True):
    """The part of every answer that says whether it is an error."""

    retCode: int
    retMsg: str = ""


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
        return row.candle()


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


class Bybit:
    """The candle source `bybit`."""

    name = NAME

    def __init__(self, *, base_url: str, budget: CallBudget, timeout_s: float) -> None:
        self._connection = Connection(
            provider=NAME,
            base_url=base_url,
            budget=budget,
            timeout_s=timeout_s,
            read_error=read_error,
        )

    def fetch_candles(
        self, symbol: str, timeframe: str, start: datetime, end: datetime
    ) -> list[Candle]:
        """See `collectors.exchange.CandleSource`."""
        page = PAGE * duration(timeframe)
        candles: dict[datetime, Candle] = {}
        cursor = start
        while cursor < end:
            stop = min(cursor + page, end)
            answer = self._connection.get(
                "/v5/market/kline",
                {
                    "category": CATEGORY,
                    "symbol": symbol,
                    "interval": INTERVALS[timeframe],
                    "start": to_ms(cursor),
                    "end": to_ms(stop) - 1,
                    "limit": PAGE,
                },
                into=KlineAnswer,
            )
            for row in answer.result.rows:
                candle = row.candle()
                if cursor <= candle.open_time < stop:
                    candles[candle.open_time] = candle
            cursor = stop
        return [candles[moment] for moment in sorted(candles)]


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
        return RateLimited(text)
    if code.retCode == SERVER_ERROR:
        return ServerError(text)
    if code.retCode == PARAMETER_ERROR and "symbol" in code.retMsg.lower():
        return UnknownSymbol(text)
    return RequestRefused(text)


def stream_channels(
    ws_url: str, *, candles: Sequence[tuple[str, str]], quotes: Sequence[str]
) -> list[Channel]:
    """One connection for the quotes of `quotes` (symbols) and one for the (symbol, timeframe)
    pairs of `candles`."""
    url = f"{ws_url}/{CATEGORY}"
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
