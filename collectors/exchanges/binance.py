"""Binance USD-M futures: candles over REST, candles and top of book over WebSocket.

REST: GET /fapi/v1/klines, at most 1500 bars, weight by limit
(https://developers.binance.com/docs/derivatives/usds-margined-futures). Streams: `bookTicker`
lives under `/public`, `kline` under `/market`; a kline is final when its `x` is true.
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
    UnknownSymbol,
    moment_of,
    sample,
    status_error,
)
from collectors.marketdata import Candle, Quote, duration, to_ms
from collectors.stream import Channel, StreamedCandle, Update, possible

NAME = "binance"
INTERVALS: Mapping[str, str] = {name: name for name in ("1m", "5m", "15m", "1h", "4h", "1d")}
PAGE = 1500
STREAMS_PER_SUBSCRIBE = 100
INVALID_SYMBOL = -1121


class KlineRow(msgspec.Struct, array_like=True, frozen=True):
    """One bar of GET /fapi/v1/klines; the fields after the volume are not used."""

    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    def candle(self) -> Candle:
        """The bar as a candle."""
        return Candle(
            open_time=moment_of(self.open_time),
            open=self.open,
            high=self.high,
            low=self.low,
            close=self.close,
            volume=self.volume,
            source=NAME,
        )


class ErrorBody(msgspec.Struct, frozen=True):
    """{"code": -1121, "msg": "Invalid symbol."}"""

    code: int = 0
    msg: str = ""


class Kline(msgspec.Struct, frozen=True):
    """The `k` of a kline event. `t` open time, `i` interval, `x` whether the bar is closed."""

    t: int
    i: str
    o: float
    h: float
    l: float  # noqa: E741 (the venue's own field name)
    c: float
    v: float
    x: bool

    def candle(self) -> Candle:
        """The bar as a candle."""
        row = KlineRow(self.t, self.o, self.h, self.l, self.c, self.v)
        return row.candle()


class KlineEvent(msgspec.Struct, frozen=True):
    """`<symbol>@kline_<interval>`."""

    s: str
    k: Kline


class BookTicker(msgspec.Struct, frozen=True):
    """`<symbol>@bookTicker`: `u` update id, b/B best bid and quantity, a/A best ask, E event."""

    u: int
    s: str
    b: float
    B: float
    a: float
    A: float
    E: int

    def quote(self, received_at: datetime) -> Quote:
        """The event as a quote."""
        return Quote(
            exchange=NAME,
            symbol=self.s,
            best_bid=self.b,
            bid_quantity=self.B,
            best_ask=self.a,
            ask_quantity=self.A,
            event_time=moment_of(self.E),
            received_at=received_at,
            sequence=self.u,
        )


class Envelope(msgspec.Struct, frozen=True):
    """What the combined stream wraps every event in; answers to requests have no stream."""

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorBody | None = None


_envelopes = msgspec.json.Decoder(Envelope)
_klines = msgspec.json.Decoder(KlineEvent, strict=False)
_tickers = msgspec.json.Decoder(BookTicker, strict=False)


class Binance:
    """The candle source `binance`."""

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
        step = duration(timeframe)
        candles: dict[datetime, Candle] = {}
        cursor = start
        while cursor < end:
            limit = min(PAGE, (end - cursor) // step)
            if limit < 1:
                break
            rows = self._connection.get(
                "/fapi/v1/klines",
                {
                    "symbol": symbol,
                    "interval": INTERVALS[timeframe],
                    "startTime": to_ms(cursor),
                    "endTime": to_ms(end) - 1,
                    "limit": limit,
                },
                into=list[KlineRow],
                weight=klines_weight(limit),
            )
            page = [row.candle() for row in rows]
            candles.update((c.open_time, c) for c in page if cursor <= c.open_time < end)
            if len(rows) < limit:
                break
            cursor = max(page[-1].open_time, cursor) + step
        return [candles[moment] for moment in sorted(candles)]


def klines_weight(limit: int) -> int:
    """The request weight of a klines call by its limit (the venue's table)."""
    if limit < 100:
        return 1
    if limit < 500:
        return 2
    return 5 if limit <= 1000 else 10


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError | None:
    """The error of an answer; `{"code", "msg"}` with a status of 4xx or 5xx."""
    if status < 300:
        return None
    try:
        refusal = msgspec.json.decode(body, type=ErrorBody)
        text = f"{refusal.code} {refusal.msg}"
    except UNREADABLE:
        refusal, text = ErrorBody(), sample(body)
    if refusal.code == INVALID_SYMBOL:
        return UnknownSymbol(f"binance: {text}")
    return status_error(status, headers, f"binance: {text}")


def stream_channels(
    ws_url: str, *, candles: Sequence[tuple[str, str]], quotes: Sequence[str]
) -> list[Channel]:
    """One connection for the quotes of `quotes` (symbols) and one for the (symbol, timeframe)
    pairs of `candles`."""
    tickers = [f"{symbol.lower()}@bookTicker" for symbol in quotes]
    klines = [f"{symbol.lower()}@kline_{INTERVALS[frame]}" for symbol, frame in candles]
    channels = [
        Channel(name="binance quotes", url=f"{ws_url}/public/stream", requests=_requests(tickers)),
        Channel(name="binance candles", url=f"{ws_url}/market/stream", requests=_requests(klines)),
    ]
    return [channel for channel in channels if channel.requests]


def _requests(streams: Sequence[str]) -> tuple[str, ...]:
    batches = range(0, len(streams), STREAMS_PER_SUBSCRIBE)
    return tuple(
        msgspec.json.encode(
            {
                "method": "SUBSCRIBE",
                "params": list(streams[first : first + STREAMS_PER_SUBSCRIBE]),
                "id": number,
            }
        ).decode()
        for number, first in enumerate(batches, start=1)
    )


def read_message(raw: bytes, received_at: datetime) -> Sequence[Update]:
    """The updates in one message: a quote, a closed candle, or nothing.

    Raises MalformedPayload when it does not parse or cannot be true, and for a refused
    subscription.
    """
    try:
        envelope = _envelopes.decode(raw)
        if envelope.error is not None:
            raise MalformedPayload(f"binance refuses a subscription: {envelope.error.msg}")
        if envelope.stream.endswith("@bookTicker"):
            return (possible(_tickers.decode(envelope.data).quote(received_at)),)
        if "@kline_" in envelope.stream:
            event = _klines.decode(envelope.data)
            if event.k.x:
                return (possible(StreamedCandle(NAME, event.s, event.k.i, event.k.candle())),)
    except UNREADABLE as problem:
        raise MalformedPayload(f"binance stream: {problem}: {sample(raw)}") from problem
    return ()
