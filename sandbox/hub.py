"""Who listens to which stream, and the faults that streams meet on the way to them.

Every message is made once per topic and handed to each subscriber's own bounded queue. One that
does not keep up is dropped; nobody waits for it.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum

from sandbox.faults import FaultBoard

QUEUE_LENGTH = 4000
GOING_AWAY = 1001


class Kind(Enum):
    """What a topic carries."""

    DEPTH = "depth"
    PARTIAL_DEPTH = "partial depth"
    TOP = "top of book"
    KLINE = "kline"
    MARK = "mark price"
    TICKER = "ticker"
    TRADE = "trade"
    AGGREGATE_TRADE = "aggregate trade"


@dataclass(frozen=True)
class Topic:
    """One stream of one exchange. `size` is levels or minutes, `every_ms` its wall interval."""

    exchange: str
    name: str
    kind: Kind
    symbol: str
    size: int
    every_ms: int


class Subscriber:
    """One connection; `wraps` when its messages are wrapped with the stream's name."""

    def __init__(self, *, wraps: bool) -> None:
        self.wraps = wraps
        self.topics: dict[str, Topic] = {}
        self.queue: asyncio.Queue[str] = asyncio.Queue(QUEUE_LENGTH)
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def put(self, text: str) -> None:
        """Queue a message; a full queue ends the connection."""
        try:
            self.queue.put_nowait(text)
        except asyncio.QueueFull:
            self.end(1008)

    def end(self, code: int) -> None:
        """Ask for the connection to be closed with this code."""
        if not self.ended.done():
            self.ended.set_result(code)


class Hub:
    """Subscribers by topic, of both exchanges."""

    def __init__(self, faults: FaultBoard) -> None:
        self.topics: dict[tuple[str, str], Topic] = {}
        self._listeners: dict[Topic, set[Subscriber]] = {}
        self._connected: dict[str, set[Subscriber]] = {}
        self._faults = faults
        self._held: dict[Topic, str] = {}

    def connect(self, exchange: str, subscriber: Subscriber) -> None:
        """A new connection."""
        self._connected.setdefault(exchange, set()).add(subscriber)

    def disconnect(self, exchange: str, subscriber: Subscriber) -> None:
        """A connection that is gone, with all its subscriptions."""
        for topic in list(subscriber.topics.values()):
            self.unsubscribe(subscriber, topic)
        self._connected[exchange].discard(subscriber)

    def end_all(self, exchange: str) -> None:
        """Close every connection of an exchange."""
        for subscriber in self._connected.get(exchange, ()):
            subscriber.end(GOING_AWAY)

    def subscribe(self, subscriber: Subscriber, topic: Topic) -> None:
        """Deliver a topic to a connection from now on."""
        subscriber.topics[topic.name] = topic
        self.topics[topic.exchange, topic.name] = topic
        self._listeners.setdefault(topic, set()).add(subscriber)

    def unsubscribe(self, subscriber: Subscriber, topic: Topic) -> None:
        """Deliver it no more; a topic without listeners ends."""
        subscriber.topics.pop(topic.name, None)
        listeners = self._listeners.get(topic, set())
        listeners.discard(subscriber)
        if not listeners and topic in self._listeners:
            del self._listeners[topic]
            del self.topics[topic.exchange, topic.name]
            self._held.pop(topic, None)

    def publish(self, topic: Topic, payload: bytes) -> None:
        """Hand a message to all listeners, unless a stream fault is in the way."""
        text = payload.decode()
        if self._faults.hit(topic.exchange, "ws_drop", topic.name):
            return
        if topic not in self._held and self._faults.hit(topic.exchange, "ws_reorder", topic.name):
            self._held[topic] = text
            return
        self._deliver(topic, text)
        if self._faults.hit(topic.exchange, "ws_duplicate", topic.name):
            self._deliver(topic, text)
        if late := self._held.pop(topic, None):
            self._deliver(topic, late)

    def _deliver(self, topic: Topic, text: str) -> None:
        wrapped = None
        for subscriber in self._listeners.get(topic, ()):
            if subscriber.wraps:
                wrapped = wrapped or wrap(topic, text)
                subscriber.put(wrapped)
            else:
                subscriber.put(text)


def wrap(topic: Topic, text: str) -> str:
    """A payload as Binance's combined streams carry it."""
    return f'{{"stream":"{topic.name}","data":{text}}}'
