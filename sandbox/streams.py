"""Moves the streams: books and tickers ten times a wall second, candles at their market close."""

import asyncio
import time
from typing import Protocol

from sandbox.hub import Hub, Kind, Subscriber, Topic
from sandbox.path import MINUTE_MS, Candle
from sandbox.world import Coin, World

TICK_MS = 100
SHORTEST_WAIT = 0.01


class Stream(Protocol):
    """What an exchange's stream side offers."""

    @property
    def name(self) -> str:
        """The exchange."""

    def topic(self, name: str, route: str = "") -> Topic | None:
        """The topic of a stream name, None if there is none."""

    def opened(self, subscriber: Subscriber, topic: Topic) -> None:
        """Send what a new subscription begins with."""

    def closed(self, topic: Topic) -> None:
        """Forget a topic without listeners."""

    def message(self, topic: Topic, coin: Coin, now_ms: int) -> bytes | None:
        """The next message of a topic other than klines."""

    def kline(
        self, topic: Topic, coin: Coin, candle: Candle, now_ms: int, *, closed: bool
    ) -> bytes:
        """A kline message."""

    def states(self, symbol: str) -> dict[str, int]:
        """The last update sent per book topic of a symbol."""


class StreamRunner:
    """Generates each message once per topic and publishes it to the hub."""

    def __init__(self, world: World, hub: Hub, streams: dict[str, Stream]) -> None:
        self._world = world
        self._hub = hub
        self._streams = streams
        self._active: dict[tuple[str, str], Topic] = {}
        self._next_open: dict[Topic, int] = {}

    async def run_quotes(self) -> None:
        """Books, tickers, trades and forming klines, on a grid of 100 ms of wall time."""
        before = _tick_number()
        while True:
            await asyncio.sleep((before + 1) * TICK_MS / 1000 - time.monotonic())
            # A timer may fire a little early: the tick is counted, not read from the clock.
            number = max(before + 1, _tick_number())
            self.send_closed()
            self._follow_topics()
            self._tick(before * TICK_MS, number * TICK_MS)
            before = number

    async def run_candles(self) -> None:
        """Closed klines, each as soon as its market close has come."""
        while True:
            sizes = {topic.size for topic in self._klines()}
            wait = TICK_MS / 1000
            if sizes:
                size_ms = min(sizes) * MINUTE_MS
                next_ms = (self._world.clock.now_ms() // size_ms + 1) * size_ms
                wait = min(wait, self._world.clock.wall_seconds_until(next_ms))
            await asyncio.sleep(max(wait, SHORTEST_WAIT))
            self.send_closed()

    def send_closed(self) -> None:
        """Publish every candle that has closed since it was last asked, once, in time order."""
        now_ms = self._world.clock.now_ms()
        due: list[tuple[int, int, Topic]] = []
        for topic in self._klines():
            size_ms = topic.size * MINUTE_MS
            next_open = self._next_open.setdefault(topic, now_ms // size_ms * size_ms)
            while next_open + size_ms <= now_ms:
                due.append((next_open + size_ms, topic.size, topic))
                next_open += size_ms
            self._next_open[topic] = next_open
        due.sort(key=lambda entry: entry[:2])
        known: dict[tuple[str, int, int], Candle | None] = {}
        for close_ms, size, topic in due:
            coin = self._world.by_symbol(topic.symbol, close_ms)
            if coin is None:
                continue
            key = (topic.symbol, size, close_ms)
            if key not in known:
                known[key] = coin.path.candle(size, close_ms - size * MINUTE_MS)
            if candle := known[key]:
                stream = self._streams[topic.exchange]
                self._hub.publish(topic, stream.kline(topic, coin, candle, now_ms, closed=True))

    def _klines(self) -> list[Topic]:
        return [topic for topic in self._hub.topics.values() if topic.kind is Kind.KLINE]

    def _follow_topics(self) -> None:
        """Forget topics that ended; mark the books that only the streams may move."""
        topics = dict(self._hub.topics)
        for key, topic in self._active.items():
            if key not in topics:
                self._streams[topic.exchange].closed(topic)
                self._next_open.pop(topic, None)
        self._active = topics
        quoted = {
            (topic.exchange, topic.symbol)
            for topic in topics.values()
            if topic.kind is not Kind.KLINE
        }
        for coin in self._world.coins.values():
            for exchange, book in coin.books.items():
                book.streamed = (exchange, coin.listing.symbol) in quoted

    def _tick(self, before_ms: int, wall_ms: int) -> None:
        now_ms = self._world.clock.now_ms()
        for exchange, stream in self._streams.items():
            moved: set[str] = set()
            for topic in [topic for topic in self._active.values() if topic.exchange == exchange]:
                coin = self._world.by_symbol(topic.symbol, now_ms)
                if coin is None:
                    continue
                if topic.kind is not Kind.KLINE and topic.symbol not in moved:
                    moved.add(topic.symbol)
                    basis = self._world.basis_bps(exchange, coin.listing, now_ms)
                    coin.books[exchange].advance(now_ms, basis)
                if wall_ms // topic.every_ms == before_ms // topic.every_ms:
                    continue
                if payload := self._next(stream, topic, coin, now_ms):
                    self._hub.publish(topic, payload)

    def _next(self, stream: Stream, topic: Topic, coin: Coin, now_ms: int) -> bytes | None:
        if topic.kind is not Kind.KLINE:
            return stream.message(topic, coin, now_ms)
        candle = coin.path.forming(topic.size, now_ms)
        # A close that falls between the last look and this one is published first, next time.
        if candle is None or candle.open_ms != self._next_open.get(topic):
            return None
        return stream.kline(topic, coin, candle, now_ms, closed=False)


def _tick_number() -> int:
    return int(time.monotonic() * 1000) // TICK_MS
