"""Who listens to which stream, and the faults that streams meet on the way to them.

Every message is made once per topic and handed to each subscriber's own bounded queue. One that
does not keep up is dropped; nobody waits for it.
"""

import asyncio
import uuid

from sandbox.faults import SPOILING_FAULTS, Fault, FaultBoard
from sandbox.spoiling import Outgoing, can_spoil, spoil
from sandbox.topics import Topic

QUEUE_LENGTH = 4000
GOING_AWAY = 1001


class Subscriber:
    """One connection; `wraps` when its messages are wrapped with the stream's name."""

    def __init__(self, *, wraps: bool) -> None:
        self.wraps = wraps
        self.number = str(uuid.uuid4())
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
    """Subscribers by topic, of all exchanges; `version` rises when the topics change."""

    def __init__(self, faults: FaultBoard) -> None:
        self.version = 0
        self.topics: dict[tuple[str, str], Topic] = {}
        self._listeners: dict[Topic, set[Subscriber]] = {}
        self._connected: dict[str, set[Subscriber]] = {}
        self._faults = faults
        self._held: dict[Topic, Outgoing] = {}
        self._spoilt = 0

    def connect(self, exchange: str, subscriber: Subscriber) -> None:
        """A new connection."""
        self._connected.setdefault(exchange, set()).add(subscriber)

    def disconnect(self, exchange: str, subscriber: Subscriber) -> None:
        """A connection that is gone, with all its subscriptions."""
        for topic in list(subscriber.topics.values()):
            self.unsubscribe(subscriber, topic)
        self._connected[exchange].discard(subscriber)

    def end_all(self, exchange: str) -> None:
        """Close every connection of an exchange; nothing is delivered to them any more."""
        for subscriber in self._connected.get(exchange, ()):
            for topic in list(subscriber.topics.values()):
                self.unsubscribe(subscriber, topic)
            subscriber.end(GOING_AWAY)

    def subscribe(self, subscriber: Subscriber, topic: Topic, first: bytes | None = None) -> None:
        """Deliver a topic to a connection from now on, beginning with `first`."""
        subscriber.topics[topic.name] = topic
        self._listeners.setdefault(topic, set()).add(subscriber)
        if (topic.exchange, topic.name) not in self.topics:
            self.topics[topic.exchange, topic.name] = topic
            self.version += 1
        if first and not self._faults.hit(topic.exchange, "ws_silent", topic.name):
            message = Outgoing(first.decode())
            subscriber.put(message.wrapped(topic.name) if subscriber.wraps else message.plain())

    def unsubscribe(self, subscriber: Subscriber, topic: Topic) -> None:
        """Deliver it no more; a topic without listeners ends."""
        subscriber.topics.pop(topic.name, None)
        listeners = self._listeners.get(topic, set())
        listeners.discard(subscriber)
        if not listeners and topic in self._listeners:
            del self._listeners[topic]
            del self.topics[topic.exchange, topic.name]
            self.version += 1
            self._held.pop(topic, None)

    def publish(self, topic: Topic, payload: bytes) -> None:
        """Hand a message to all listeners, unless a stream fault is in the way."""
        message: Outgoing | None = Outgoing(payload.decode())
        if not self._faults.is_calm(topic.exchange):
            message = self._amid_faults(topic, Outgoing(payload.decode()))
        if message is None:
            return
        self._deliver(topic, message)
        if late := self._held.pop(topic, None):
            self._deliver(topic, late)

    def _amid_faults(self, topic: Topic, message: Outgoing) -> Outgoing | None:
        """What the faults leave of a message, None if it does not go out now."""

        def hit(kind: str) -> Fault | None:
            return self._faults.hit(topic.exchange, kind, topic.name)

        if hit("ws_silent") or hit("ws_drop"):
            return None
        for kind in SPOILING_FAULTS:
            if can_spoil(kind, topic, message) and (fault := hit(kind)):
                self._spoilt += 1
                message = spoil(kind, topic, message, fault.seconds, self._spoilt)
        if topic not in self._held and hit("ws_reorder"):
            self._held[topic] = message
            return None
        if hit("ws_duplicate"):
            self._deliver(topic, message)
        return message

    def _deliver(self, topic: Topic, message: Outgoing) -> None:
        wrapped = None
        for subscriber in self._listeners.get(topic, ()):
            if subscriber.wraps:
                wrapped = wrapped or message.wrapped(topic.name)
                subscriber.put(wrapped)
            else:
                subscriber.put(message.plain())
