"""What the readers of all venues share: every message goes to what reads its topic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import ClassVar

from collectors.exchange import UNREADABLE, MalformedPayload, sample
from collectors.feeds import Kind, Topic, Update
from collectors.keptbook import KeptBook

LONGEST_NAME = 100

ReadMessage = Callable[[bytes, datetime], Sequence[Update]]


class TopicReader(ABC):
    """Reads the messages of one topic, and keeps what they build on."""

    __slots__ = ("exchange", "name", "symbol")

    def __init__(self, topic: Topic) -> None:
        self.exchange = topic.exchange
        self.symbol = topic.symbol
        self.name = topic.name

    @abstractmethod
    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        """See `collectors.feeds.Reader`; may also raise what UNREADABLE names."""

    def check(self, name: str, symbol: str) -> None:
        """Raises MalformedPayload for a message of another topic or symbol than this one's."""
        if name != self.name or symbol != self.symbol:
            raise MalformedPayload(f"{self.exchange} {self.name}: says {name[:100]} {symbol[:100]}")


class MessageReader(ABC):
    """The common part of `collectors.feeds.Reader`.

    A venue writes the fields of its messages in one order, so the topic is looked up where it is
    expected and the message decoded once, as what that topic carries; the topic's reader compares
    the name again with what was decoded. Messages of another form are decoded twice.
    """

    # How a message that names its topic usually begins, up to the name. Whether one does is not
    # looked at: the topic's reader will see.
    opening: ClassVar[bytes]

    def __init__(self, exchange: str) -> None:
        self.exchange = exchange
        self.books: dict[str, KeptBook] = {}
        self._topics: dict[bytes, Topic] = {}
        self._names: dict[bytes, str] = {}
        self._reads: dict[bytes, ReadMessage] = {}
        self._start = len(self.opening)

    def follow(self, topics: Sequence[Topic]) -> None:
        """See `collectors.feeds.Reader`."""
        wanted = {topic.name.encode(): topic for topic in topics}
        for name in self._topics.keys() - wanted.keys():
            topic = self._topics.pop(name)
            del self._reads[name], self._names[name]
            if topic.kind is Kind.BOOK:
                del self.books[topic.symbol]
        for name, topic in wanted.items():
            if name not in self._topics:
                self._reads[name] = self.reads(topic)
                self._topics[name], self._names[name] = topic, topic.name

    def topic_of(self, raw: bytes) -> str:
        """See `collectors.feeds.Reader`. A name that is not followed is cut where it is longer than
        any topic's."""
        known = self._names.get(raw[self._start : raw.find(b'"', self._start)])
        if known is not None:
            return known
        try:
            return self.named(raw)[:LONGEST_NAME]
        except UNREADABLE:
            return ""

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        """See `collectors.feeds.Reader`."""
        try:
            read = self._reads.get(raw[self._start : raw.find(b'"', self._start)])
            if read is not None:
                return read(raw, received_at)
            name = self.named(raw)
            if not name:
                return self.read_answer(raw)
            read = self._reads.get(name.encode())
            return () if read is None else read(raw, received_at)
        except UNREADABLE as problem:
            text = f"{self.exchange} stream: {problem}: {sample(raw)}"
            raise MalformedPayload(text) from problem

    @abstractmethod
    def reads(self, topic: Topic) -> ReadMessage:
        """What reads the messages of a topic that is new here. A book is put into `books`."""

    @abstractmethod
    def named(self, raw: bytes) -> str:
        """The topic that a message names wherever it stands, "" for none. Raises what UNREADABLE
        names."""

    @abstractmethod
    def read_answer(self, raw: bytes) -> Sequence[Update]:
        """What a message says that names no topic. Raises what UNREADABLE names."""
