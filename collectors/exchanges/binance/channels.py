"""Binance USD-M futures over WebSocket: candles and top of book.

`bookTicker` lives under `/public`, `kline` under `/market`; a kline is final when its `x` is true
(https://developers.binance.com/docs/derivatives/usds-margined-futures).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from collectors.exchange import UNREADABLE, MalformedPayload, moment_of, sample
from collectors.exchanges.binance.payloads import NAME, ErrorBody
from collectors.exchanges.binance.rest import INTERVALS
from collectors.klines import KlineRow
from collectors.marketdata import Candle, Quote
from collectors.stream import Channel, StreamedCandle, Update, possible

STREAMS_PER_SUBSCRIBE = 100


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
        return row.candle(NAME)


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
