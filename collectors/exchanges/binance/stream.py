"""Binance over WebSocket: USD-M futures and spot.

USD-M serves books and their tops under `/public`, everything else under `/market`. A connection
takes 1024 streams, and few requests a second, where frames of the protocol's own heartbeat count
too: whoever sends more is disconnected
(https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams,
https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from collectors.exchanges.binance.books import FuturesBook, SpotBook
from collectors.exchanges.binance.messages import (
    AggregateTradeReader,
    Answer,
    CandleReader,
    DiffReader,
    MarkReader,
    SpotTopReader,
    TickerReader,
    TopReader,
    TradeReader,
)
from collectors.exchanges.binance.payloads import NAME
from collectors.exchanges.binance.rest import INTERVALS, SPOT
from collectors.feeds import Kind, Refusal, Topic, Update
from collectors.readers import MessageReader, ReadMessage, TopicReader

STREAMS_PER_CONNECTION = 1024
STREAMS_PER_REQUEST = 100  # a request of more than 4,096 bytes has been refused
TIMEFRAMES = {interval: timeframe for timeframe, interval in INTERVALS.items()}
PUBLIC_GROUPS = ("books", "tops")
GROUPS: Mapping[Kind, str] = {
    Kind.BOOK: "books",
    Kind.TOP: "tops",
    Kind.CANDLE: "market",
    Kind.MARK: "market",
    Kind.TICKER: "market",
    Kind.TRADE: "trades",
}


@dataclass(frozen=True, kw_only=True)
class BinanceFeed:
    """One of the two markets as a `collectors.feeds.Feed`.

    `endings` is what follows the symbol in a stream's name; `quiet_s` the longest silence of a
    kind. Only mark prices come by the clock; the rest waits for the market to move, and the bounds
    are far above what a listed symbol is ever silent for.
    """

    exchange: str
    url_setting: str
    paths: Mapping[str, str]  # by group
    endings: Mapping[Kind, str]
    quiet_s: Mapping[Kind, float | None]
    requests_per_second: float
    # Both markets together stay within ten connections.
    most_connections: int = 5
    topics_per_connection: int = STREAMS_PER_CONNECTION
    ping: str = ""
    ping_interval_s: float = 20.0

    def topics(self, symbol: str, *, timeframes: Sequence[str], kinds: set[Kind]) -> list[Topic]:
        """See `collectors.feeds.Feed`. Raises KeyError for a timeframe that the venue lacks."""
        names: list[tuple[Kind, str]] = []
        for kind, ending in self.endings.items():
            if kind not in kinds:
                continue
            if kind is Kind.CANDLE:
                names += [(kind, f"{ending}{INTERVALS[frame]}") for frame in timeframes]
            else:
                names.append((kind, ending))
        return [
            Topic(
                exchange=self.exchange,
                symbol=symbol,
                kind=kind,
                name=f"{symbol.lower()}@{ending}",
                group=GROUPS[kind],
                quiet_s=self.quiet_s[kind],
            )
            for kind, ending in names
        ]

    def url(self, ws_url: str, group: str) -> str:
        """See `collectors.feeds.Feed`."""
        return f"{ws_url}{self.paths[group]}"

    def subscribe(self, names: Sequence[str]) -> list[str]:
        """See `collectors.feeds.Feed`."""
        return _requests("SUBSCRIBE", names)

    def unsubscribe(self, names: Sequence[str]) -> list[str]:
        """See `collectors.feeds.Feed`."""
        return _requests("UNSUBSCRIBE", names)

    def reader(self) -> BinanceReader:
        """See `collectors.feeds.Feed`."""
        return BinanceReader(self.exchange)


class BinanceReader(MessageReader):
    """The messages of one connection to either market."""

    opening = b'{"stream":"'

    def reads(self, topic: Topic) -> ReadMessage:
        """See `collectors.readers.MessageReader`."""
        if topic.kind is Kind.BOOK:
            book_of = FuturesBook if self.exchange == NAME else SpotBook
            book = self.books[topic.symbol] = book_of(self.exchange, topic.symbol)
            return DiffReader(topic, book).read
        if topic.kind is Kind.CANDLE:
            interval = topic.name.rpartition("@kline_")[2]
            return CandleReader(topic, timeframe=TIMEFRAMES[interval], interval=interval).read
        return READERS[self.exchange][topic.kind](topic).read

    def named(self, raw: bytes) -> str:
        """See `collectors.readers.MessageReader`."""
        return _answers.decode(raw).stream

    def read_answer(self, raw: bytes) -> Sequence[Update]:
        """A refusal does not say which of its streams was wrong."""
        reason = _answers.decode(raw).refusal
        return (Refusal(self.exchange, "", reason),) if reason else ()


_answers = msgspec.json.Decoder(Answer, strict=False)

_common: dict[Kind, Callable[[Topic], TopicReader]] = {Kind.TICKER: TickerReader}
READERS: Mapping[str, Mapping[Kind, Callable[[Topic], TopicReader]]] = {
    NAME: _common | {Kind.TOP: TopReader, Kind.MARK: MarkReader, Kind.TRADE: AggregateTradeReader},
    SPOT: _common | {Kind.TOP: SpotTopReader, Kind.TRADE: TradeReader},
}

USDM_FEED = BinanceFeed(
    exchange=NAME,
    url_setting="BINANCE_WS_URL",
    paths={
        group: "/public/stream" if group in PUBLIC_GROUPS else "/market/stream"
        for group in GROUPS.values()
    },
    endings={
        Kind.BOOK: "depth@100ms",
        Kind.TOP: "bookTicker",
        Kind.CANDLE: "kline_",
        Kind.MARK: "markPrice@1s",
        Kind.TICKER: "ticker",
        Kind.TRADE: "aggTrade",
    },
    quiet_s={
        Kind.BOOK: 30.0,
        Kind.TOP: 30.0,
        Kind.CANDLE: 300.0,
        Kind.MARK: 10.0,
        Kind.TICKER: 300.0,
        Kind.TRADE: None,
    },
    requests_per_second=4.0,
)
SPOT_FEED = BinanceFeed(
    exchange=SPOT,
    url_setting="BINANCE_SPOT_WS_URL",
    paths=dict.fromkeys(GROUPS.values(), "/stream"),
    endings={
        Kind.BOOK: "depth@100ms",
        Kind.TOP: "bookTicker",
        Kind.CANDLE: "kline_",
        Kind.TICKER: "ticker",
        Kind.TRADE: "trade",
    },
    quiet_s={
        Kind.BOOK: 120.0,
        Kind.TOP: 120.0,
        Kind.CANDLE: 900.0,
        Kind.TICKER: 900.0,
        Kind.TRADE: None,
    },
    requests_per_second=2.0,
)


def _requests(method: str, names: Sequence[str]) -> list[str]:
    batches = range(0, len(names), STREAMS_PER_REQUEST)
    return [
        msgspec.json.encode(
            {
                "method": method,
                "params": list(names[first : first + STREAMS_PER_REQUEST]),
                "id": number,
            }
        ).decode()
        for number, first in enumerate(batches, start=1)
    ]
