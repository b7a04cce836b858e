"""Moves the streams: books and tickers ten times a wall second, candles at their market close.

A rate above one makes all but the candles that many times as frequent.
"""

import asyncio
import time
from typing import Protocol

from sandbox.hub import Hub, Subscriber
from sandbox.path import MINUTE_MS, Candle
from sandbox.topics import Kind, Topic
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

    def opened(self, topic: Topic) -> bytes | None:
        """What a new subscription begins with, if anything."""

    def closed(self, topic: Topic) -> None:
        """Forget a topic without listeners."""

    def restart(self) -> None:
        """Begin anew, with other update ids."""

    def request(self, hub: Hub, subscriber: Subscriber, text: str, route: str) -> None:
        """Answer one request of a client."""

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

    def __init__(
        self, world: World, hub: Hub, streams: dict[str, Stream], rate: float = 1.0
    ) -> None:
        self._world = world
        self._hub = hub
        self._streams = streams
        self._rate = rate
        self._version = -1
        self._active: dict[tuple[str, str], Topic] = {}
        self._quoted: dict[tuple[str, str], list[Topic]] = {}
        self._klines: list[Topic] = []
        self._next_open: dict[Topic, int] = {}

    async def run_quotes(self) -> None:
        """Books, tickers, trades and forming klines, on a grid of 100 ms of wall time."""
        before = self._tick_number()
        while True:
            tick_s = TICK_MS / self._rate / 1000
            await asyncio.sleep((before + 1) * tick_s - time.monotonic())
            # A timer may fire a little early: the tick is counted, not read from the clock.
            number = max(before + 1, self._tick_number())
            self.send_closed()
            self._tick(before * TICK_MS, number * TICK_MS)
            before = number

    def _tick_number(self) -> int:
        return int(time.monotonic() * 1000 * self._rate) // TICK_MS

    async def run_candles(self) -> None:
        """Closed klines, each as soon as its market close has come."""
        while True:
            self._follow_topics()
            sizes = {topic.size for topic in self._klines}
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
        self._follow_topics()
        for topic in self._klines:
            size_ms = topic.size * MINUTE_MS
            next_open = self._next_open.setdefault(topic, now_ms // size_ms * size_ms)
            while next_open + size_ms <= now_ms:
                due.append((next_open + size_ms, topic.size, topic))
                next_open += size_ms
            self._next_open[topic] = next_open
        due.sort(key=lambda entry: entry[:2])
        known: dict[tuple[str, int, int], Candle | None] = {}
        for close_ms, size, topic in due:
            coin = self._world.by_symbol(topic.exchange, topic.symbol, close_ms)
            if coin is None:
                continue
            key = (topic.symbol, size, close_ms)
            if key not in known:
                known[key] = coin.path.candle(size, close_ms - size * MINUTE_MS)
            if candle := known[key]:
                stream = self._streams[topic.exchange]
                self._hub.publish(topic, stream.kline(topic, coin, candle, now_ms, closed=True))

    def _follow_topics(self) -> None:
        """Forget topics that ended; mark the books that only the streams may move."""
        if self._hub.version == self._version:
            return
        self._version = self._hub.version
        topics = dict(self._hub.topics)
        for key, topic in self._active.items():
            if key not in topics:
                self._streams[topic.exchange].closed(topic)
                self._next_open.pop(topic, None)
        self._active = topics
        self._klines = [topic for topic in topics.values() if topic.kind is Kind.KLINE]
        self._quoted = {}
        for topic in topics.values():
            if topic.kind is not Kind.KLINE:
                self._quoted.setdefault((topic.exchange, topic.symbol), []).append(topic)
        for coin in self._world.coins.values():
            for exchange, book in coin.books.items():
                book.streamed = (exchange, coin.listing.symbol) in self._quoted

    def _tick(self, before_ms: int, wall_ms: int) -> None:
        now_ms = self._world.clock.now_ms()
        for (exchange, symbol), topics in self._quoted.items():
            coin = self._world.by_symbol(exchange, symbol, now_ms)
            if coin is None:
                continue
            coin.advance(exchange, now_ms)
            stream = self._streams[exchange]
            for topic in topics:
                if wall_ms // topic.every_ms != before_ms // topic.every_ms:
                    payload = stream.message(topic, coin, now_ms)
                    if payload:
                        self._hub.publish(topic, payload)
        for topic in self._klines:
            every_ms = topic.every_ms * self._rate
            if wall_ms // every_ms != before_ms // every_ms:
                self._send_forming(topic, now_ms)

    def _send_forming(self, topic: Topic, now_ms: int) -> None:
        coin = self._world.by_symbol(topic.exchange, topic.symbol, now_ms)
        candle = coin.path.forming(topic.size, now_ms) if coin else None
        # A close that falls between the last look and this one is published first, next time.
        if coin is None or candle is None or candle.open_ms != self._next_open.get(topic):
            return
        stream = self._streams[topic.exchange]
        self._hub.publish(topic, stream.kline(topic, coin, candle, now_ms, closed=False))
