"""One connection to a venue: its subscriptions, its messages, its heartbeat, its silence.

SessionLost             the connection is over, and why; a new one may be opened
    SessionSilent       it is open, but nothing comes
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from collectors import clock
from collectors.exchange import MalformedPayload
from collectors.feeds import Feed, ImpossibleCandle, Kind, Reader, StreamedCandle, Topic, Update

log = structlog.get_logger(__name__)

OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 0.5
# Where no topic has a rhythm of its own, what a connection may be silent at least.
LONGEST_SILENCE_S = 120.0
# A topic that spoke rarely may stay silent for as many of its usual intervals.
USUAL_INTERVALS = 20
# Of a flood of malformed messages, so many a second are logged; all are counted.
LOGGED_PER_LOOK = 3


class SessionLost(Exception):
    """The connection is over; the text says why."""


class SessionSilent(SessionLost):
    """The connection is open, but nothing comes."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How patient the connections are; wall seconds. Venues end every connection after 24 hours:
    `longest_age_s` ends it before, with its successor already running. One that was lost before
    `steady_s` has failed, whatever it said. A topic that is refused is asked for again after
    `refused_first_s`, then ever more rarely, down to once in `refused_again_s`."""

    first_backoff_s: float = 0.5
    longest_backoff_s: float = 15.0
    steady_s: float = 5.0
    longest_age_s: float = 23 * 3600.0
    join_s: float = 20.0
    look_s: float = 1.0
    silence_s: float = LONGEST_SILENCE_S
    refused_first_s: float = 5.0
    refused_again_s: float = 600.0


class Heard(Protocol):
    """Where a session's messages go; called in the event loop, and must not block."""

    def update(self, session: Session, update: Update) -> None:
        """One update of a message."""

    def impossible(self, item: StreamedCandle, reason: str) -> None:
        """A closed candle that cannot be true."""


@dataclass
class TopicCount:
    """What has been heard of a topic on one connection; times are monotonic seconds."""

    since: float
    heard_at: float
    messages: int = 0
    resubscribed: int = 0

    def stalled(self, quiet_s: float, now: float) -> bool:
        """Whether neither the venue's rhythm nor the topic's own explains its silence."""
        silence = now - self.heard_at
        if silence <= quiet_s:
            return False
        usual = (self.heard_at - self.since) / self.messages if self.messages else 0.0
        return silence > USUAL_INTERVALS * usual


class Session:
    """A connection that `run` opens and reads until it is lost.

    `follow` changes its subscriptions at any time, by requests on the open connection.
    """

    def __init__(
        self, feed: Feed, url: str, *, name: str, heard: Heard, pace: Pace, is_heir: bool = False
    ) -> None:
        self.feed = feed
        self.name = name
        self.reader: Reader = feed.reader()
        self.is_heir = is_heir
        self.overlaps = False  # with another connection that gives the same
        self.is_open = False
        self.messages = 0
        self.malformed = 0
        self.unknown = 0
        self.counts: dict[str, TopicCount] = {}
        self.topics: dict[str, Topic] = {}
        self.opened_at = time.monotonic()
        self._url = url
        self._heard = heard
        self._pace = pace
        self._requests: deque[str] = deque()
        self._has_requests = asyncio.Event()
        self._heard_at = time.monotonic()
        self._logged = 0
        self._on_message: Callable[[Topic], None] | None = None
        self._asked_singly: set[str] = set()
        self._is_muted = False

    @property
    def has_heard(self) -> bool:
        """Whether any topic has said something."""
        return any(count.messages for count in self.counts.values())

    def follow(self, topics: Sequence[Topic]) -> None:
        """Subscribe to these topics and to no others."""
        wanted = {topic.name: topic for topic in topics}
        added = [name for name in wanted if name not in self.topics]
        dropped = [name for name in self.topics if name not in wanted]
        self.topics = wanted
        self.reader.follow(list(topics))
        now = time.monotonic()
        self._asked_singly.difference_update(dropped)
        for name in dropped:
            del self.counts[name]
        for name in added:
            self.counts[name] = TopicCount(now, now)
        self._send([*self.feed.unsubscribe(dropped), *self.feed.subscribe(added)])

    def resubscribe(self, name: str) -> None:
        """Drop a topic and take it anew: venues open a subscription with what it begins with."""
        if name in self.topics:
            count = self.counts[name]
            self.counts[name] = TopicCount(
                time.monotonic(), time.monotonic(), resubscribed=count.resubscribed + 1
            )
            self._send([*self.feed.unsubscribe([name]), *self.feed.subscribe([name])])

    def ask_singly(self) -> None:
        """A request for several topics has been refused, and the venue does not say for which of
        them: ask for each that has said nothing in a request of its own, once."""
        silent = {name for name, count in self.counts.items() if not count.messages}
        for name in sorted(silent - self._asked_singly):
            self._asked_singly.add(name)
            self._send(self.feed.subscribe([name]))

    def mute(self) -> None:
        """Say nothing more: another connection says the same."""
        self._is_muted = True

    def watch_messages(self, on_message: Callable[[Topic], None] | None) -> None:
        """Tell `on_message` of every message of a topic, after its updates."""
        self._on_message = on_message

    async def run(self) -> None:
        """Open the connection and read it. Raises SessionLost in the end; never returns."""
        local = urlsplit(self._url).hostname in {"127.0.0.1", "localhost"}
        try:
            async with connect(
                self._url,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                # What books say compresses well, but unpacking costs more than the network here.
                compression=None,
                proxy=None if local else True,
            ) as connection:
                self.is_open = True
                self._heard_at = self.opened_at = time.monotonic()
                for count in self.counts.values():
                    count.since = count.heard_at = self._heard_at
                log.info("stream_connected", session=self.name, topics=len(self.topics))
                await self._serve(connection)
        except (OSError, WebSocketException, TimeoutError) as error:
            raise SessionLost(f"{type(error).__name__}: {error}"[:200]) from error
        finally:
            self.is_open = False

    async def _serve(self, connection: ClientConnection) -> None:
        tasks = [
            asyncio.create_task(self._read(connection)),
            asyncio.create_task(self._send_requests(connection)),
            asyncio.create_task(self._look()),
        ]
        if self.feed.ping:
            tasks.append(asyncio.create_task(self._ping(connection)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, connection: ClientConnection) -> None:
        reader, counts, topics = self.reader, self.counts, self.topics
        receive, update, now_of = connection.recv, self._heard.update, time.monotonic
        while True:
            raw = await receive(decode=False)
            if self._is_muted:
                return
            self._heard_at = now = now_of()
            self.messages += 1
            name = reader.topic_of(raw)
            count = counts.get(name)
            if count is not None:
                count.heard_at = now
                count.messages += 1
            elif name:
                self.unknown += 1
            try:
                found = reader.read(raw, clock.wall_now())
            except MalformedPayload as error:
                self._note_malformed(error)
                continue
            for item in found:
                update(self, item)
            if self._on_message is not None:
                topics = self.topics
                if name in topics:
                    self._on_message(topics[name])

    def _note_malformed(self, error: MalformedPayload) -> None:
        self.malformed += 1
        self._logged += 1
        if self._logged <= LOGGED_PER_LOOK:
            log.warning(
                "stream_message_malformed",
                session=self.name,
                problem=str(error)[:300],
                count=self.malformed,
            )
        if isinstance(error, ImpossibleCandle):
            self._heard.impossible(error.item, error.reason)

    def _send(self, requests: Sequence[str]) -> None:
        self._requests.extend(requests)
        if self._requests:
            self._has_requests.set()

    async def _send_requests(self, connection: ClientConnection) -> None:
        """Send what waits, no faster than the venue allows."""
        while True:
            await self._has_requests.wait()
            while self._requests:
                await connection.send(self._requests.popleft())
                await asyncio.sleep(1 / self.feed.requests_per_second)
            self._has_requests.clear()

    async def _ping(self, connection: ClientConnection) -> None:
        while True:
            await asyncio.sleep(self.feed.ping_interval_s)
            await connection.send(self.feed.ping)

    async def _look(self) -> None:
        """Raises SessionSilent when no topic's rhythm explains the silence of all. A topic that
        has stalled alone is taken anew, with pauses that double."""
        looked_at = time.monotonic()
        while not self._is_muted:
            await asyncio.sleep(self._pace.look_s)
            self._logged = 0
            before, now = looked_at, time.monotonic()
            looked_at = now
            if self._is_muted or now - before > 2 * self._pace.look_s + 1:
                continue  # we were held up, not the venue: first read what has come meanwhile
            silence = now - self._heard_at
            if self.topics and silence > self._longest_silence():
                raise SessionSilent(f"nothing heard for {silence:.0f} s")
            for topic in list(self.topics.values()):
                if self._has_stalled(topic, now):
                    self._take_anew(topic, now)

    def _longest_silence(self) -> float:
        """What may pass without any message: the rhythm of the most talkative topic, or, where
        none has one, many times what has been usual on this connection."""
        limits = [topic.quiet_s for topic in self.topics.values() if topic.quiet_s is not None]
        usual = (self._heard_at - self.opened_at) / self.messages if self.messages else 0.0
        return max(min(limits, default=self._pace.silence_s), USUAL_INTERVALS * usual)

    def _has_stalled(self, topic: Topic, now: float) -> bool:
        return topic.quiet_s is not None and self.counts[topic.name].stalled(topic.quiet_s, now)

    def _take_anew(self, topic: Topic, now: float) -> None:
        count = self.counts[topic.name]
        quiet_s = topic.quiet_s or 0.0
        if now - count.since < min(quiet_s * 2**count.resubscribed, self._pace.refused_again_s):
            return
        log.warning("stream_topic_stalled", session=self.name, topic=topic.name)
        if topic.kind is Kind.BOOK:
            book = self.reader.books.get(topic.symbol)
            if book is not None:
                book.withhold("its stream has stalled")
                self._heard.update(self, book)
        self.resubscribe(topic.name)
