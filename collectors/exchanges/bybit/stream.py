"""Bybit v5 over WebSocket: linear perpetuals and spot.

Both markets use the same topic names, on addresses of their own. `orderbook.1` sends snapshots and
repeats them after three seconds; a ping is due every twenty; a request that names one wrong symbol
fails whole, and spot takes ten topics in one
(https://bybit-exchange.github.io/docs/v5/ws/connect).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from collectors.exchanges.bybit.books import LEVELS, BybitBook
from collectors.exchanges.bybit.messages import (
    Answer,
    BookReader,
    CandleReader,
    TopReader,
    TradeReader,
)
from collectors.exchanges.bybit.payloads import NAME
from collectors.exchanges.bybit.rest import INTERVALS, LINEAR_CATEGORY, SPOT, SPOT_CATEGORY
from collectors.exchanges.bybit.tickers import SpotTickerReader, TickerReader
from collectors.feeds import Kind, Refusal, Topic, Update
from collectors.readers import MessageReader, ReadMessage, TopicReader

TIMEFRAMES = {interval: timeframe for timeframe, interval in INTERVALS.items()}
PING_INTERVAL_S = 20.0
# The topics of a connection may have 21,000 characters together; the longest names have about 40.
TOPICS_PER_CONNECTION = 500
SUBSCRIBED_ALREADY = "already subscribed"
GROUPS: Mapping[Kind, str] = {
    Kind.BOOK: "books",
    Kind.TOP: "tops",
    Kind.CANDLE: "market",
    Kind.MARK: "market",
    Kind.TICKER: "market",
    Kind.TRADE: "trades",
}


@dataclass(frozen=True, kw_only=True)
class BybitFeed:
    """One of the two markets as a `collectors.feeds.Feed`.

    `beginnings` is what a topic's name has before the symbol; `quiet_s` the longest silence of a
    kind. Tops are repeated; the rest waits for the market to move, and the bounds are far above
    what a listed symbol is ever silent for. The ticker of linear carries mark price and funding
    too: it is one topic, of kind MARK where that is wanted, and its reader says both.
    """

    exchange: str
    category: str
    beginnings: Mapping[Kind, str]
    quiet_s: Mapping[Kind, float | None]
    url_setting: str = "BYBIT_WS_URL"
    # Both markets together stay within twenty connections.
    most_connections: int = 10
    topics_per_connection: int = TOPICS_PER_CONNECTION
    requests_per_second: float = 20.0
    ping: str = '{"op":"ping"}'
    ping_interval_s: float = PING_INTERVAL_S

    def topics(self, symbol: str, *, timeframes: Sequence[str], kinds: set[Kind]) -> list[Topic]:
        """See `collectors.feeds.Feed`. Raises KeyError for a timeframe that the venue lacks."""
        names: dict[str, Kind] = {}
        for kind, beginning in self.beginnings.items():
            if kind not in kinds:
                continue
            if kind is Kind.CANDLE:
                for frame in timeframes:
                    names[f"{beginning}.{INTERVALS[frame]}.{symbol}"] = kind
            else:
                names.setdefault(f"{beginning}.{symbol}", kind)
        return [
            Topic(
                exchange=self.exchange,
                symbol=symbol,
                kind=kind,
                name=name,
                group=GROUPS[kind],
                quiet_s=self.quiet_s[kind],
            )
            for name, kind in names.items()
        ]

    def url(self, ws_url: str, group: str) -> str:
        """See `collectors.feeds.Feed`."""
        return f"{ws_url}/{self.category}"

    def subscribe(self, names: Sequence[str]) -> list[str]:
        """See `collectors.feeds.Feed`. One request for each topic: a symbol that the venue does
        not know fails its request whole, and the answer says no more than the request's id."""
        return [_request("subscribe", name) for name in names]

    def unsubscribe(self, names: Sequence[str]) -> list[str]:
        """See `collectors.feeds.Feed`."""
        return [_request("unsubscribe", name) for name in names]

    def reader(self) -> BybitReader:
        """See `collectors.feeds.Feed`."""
        return BybitReader(self.exchange)


class BybitReader(MessageReader):
    """The messages of one connection to either market."""

    opening = b'{"topic":"'

    def reads(self, topic: Topic) -> ReadMessage:
        """See `collectors.readers.MessageReader`."""
        if topic.kind is Kind.BOOK:
            book = self.books[topic.symbol] = BybitBook(self.exchange, topic.symbol)
            return BookReader(topic, book).read
        if topic.kind is Kind.CANDLE:
            interval = topic.name.split(".")[1]
            return CandleReader(topic, timeframe=TIMEFRAMES[interval], interval=interval).read
        return READERS[self.exchange][topic.kind](topic).read

    def named(self, raw: bytes) -> str:
        """See `collectors.readers.MessageReader`."""
        return _answers.decode(raw).topic

    def read_answer(self, raw: bytes) -> Sequence[Update]:
        """A refused subscription, unless what it asked for is there. Data may come before it."""
        answer = _answers.decode(raw)
        is_refusal = not answer.success and answer.op in ("subscribe", "")
        if not is_refusal or SUBSCRIBED_ALREADY in answer.ret_msg:
            return ()
        return (Refusal(self.exchange, answer.req_id, answer.ret_msg),)


_answers = msgspec.json.Decoder(Answer, strict=False)

_common: dict[Kind, Callable[[Topic], TopicReader]] = {
    Kind.TOP: TopReader,
    Kind.TRADE: TradeReader,
}
READERS: Mapping[str, Mapping[Kind, Callable[[Topic], TopicReader]]] = {
    NAME: _common | {Kind.MARK: TickerReader, Kind.TICKER: TickerReader},
    SPOT: _common | {Kind.TICKER: SpotTickerReader},
}
_beginnings = {
    Kind.BOOK: f"orderbook.{LEVELS}",
    Kind.TOP: "orderbook.1",
    Kind.CANDLE: "kline",
    Kind.TICKER: "tickers",
    Kind.TRADE: "publicTrade",
}

LINEAR_FEED = BybitFeed(
    exchange=NAME,
    category=LINEAR_CATEGORY,
    beginnings={Kind.MARK: "tickers"} | _beginnings,
    quiet_s={
        Kind.BOOK: 30.0,
        Kind.TOP: 12.0,
        Kind.CANDLE: 300.0,
        Kind.MARK: 30.0,
        Kind.TICKER: 30.0,
        Kind.TRADE: None,
    },
)
SPOT_FEED = BybitFeed(
    exchange=SPOT,
    category=SPOT_CATEGORY,
    beginnings=_beginnings,
    quiet_s={
        Kind.BOOK: 120.0,
        Kind.TOP: 12.0,
        Kind.CANDLE: 900.0,
        Kind.TICKER: 900.0,
        Kind.TRADE: None,
    },
)


def _request(op: str, name: str) -> str:
    return msgspec.json.encode({"op": op, "req_id": name, "args": [name]}).decode()
