"""All live connections of one process: which topic is on which line, and what becomes of books
that have lost their place.

The venues' modules say what to subscribe to and what a message means; this module knows no venue.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import structlog

from collectors.backoff import backoff
from collectors.feeds import Feed, Kind, PublicTrade, Refusal, StreamedCandle, Topic, Update
from collectors.keptbook import KeptBook
from collectors.marketdata import Quote
from collectors.resync import Resyncs, SnapshotSource, needs_care
from collectors.stream_line import Line
from collectors.stream_session import Pace, Session

log = structlog.get_logger(__name__)

TopicKey = tuple[str, str]  # exchange, topic name
# Of the trades that two overlapping connections give, so many are remembered.
MOST_TRADES = 10_000
LOOK_AT_LINES_S = 5.0


class Outlets(Protocol):
    """Where the updates go; called in the event loop, and must not block."""

    def take(self, update: Update) -> None:
        """A quote, candle, mark price, trade, ticker or refusal."""

    def take_book(self, book: KeptBook) -> None:
        """A book that has just begun, lost or found its place."""

    def reject(self, item: StreamedCandle, reason: str) -> None:
        """A closed candle that cannot be true."""


class _Refused(NamedTuple):
    """How often a topic has been refused before, and until when it is left alone."""

    times: int
    until: float


@dataclass
class LineCount:
    """One line for reports: messages since its connection was made."""

    name: str
    is_open: bool
    topics: int
    messages: int
    malformed: int
    unknown: int
    connections: int
    lost: int
    replaced: int


class MarketStream:
    """Connections of several venues. `urls` has the address of each feed by exchange;
    `fetch_snapshot` asks a venue for a book."""

    def __init__(
        self,
        feeds: Mapping[str, Feed],
        *,
        urls: Mapping[str, str],
        outlets: Outlets,
        fetch_snapshot: SnapshotSource,
        pace: Pace | None = None,
    ) -> None:
        self._feeds = feeds
        self._urls = urls
        self._outlets = outlets
        self._pace = pace or Pace()
        self._lines: dict[Line, asyncio.Task[None]] = {}
        self._wanted: dict[TopicKey, Topic] = {}
        self._changed = asyncio.Event()
        self._trades: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._refused: dict[TopicKey, _Refused] = {}
        self._book_lines: dict[tuple[str, str], Line] = {}  # by exchange and symbol
        self._numbers = itertools.count(1)
        self._resyncs = Resyncs(
            fetch_snapshot,
            is_kept=self._is_kept,
            resubscribe=self._resubscribe,
            on_change=outlets.take_book,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Keep everything that is subscribed to connected until `stop` is set."""
        follower = asyncio.create_task(self._follow())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({follower, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if follower.done():
                follower.result()
        finally:
            tasks = [follower, stopped, *self._lines.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._resyncs.close()

    def subscribe(self, topics: Sequence[Topic]) -> None:
        """Follow these topics from now on, and no others; open connections stay open. Topics of
        exchanges that this stream has no feed for are left out."""
        self._wanted = {
            (topic.exchange, topic.name): topic for topic in topics if topic.exchange in self._feeds
        }
        for key in self._refused.keys() - self._wanted.keys():
            del self._refused[key]
        self._changed.set()

    def books(self) -> Iterator[KeptBook]:
        """The books that are kept now."""
        for line in self._lines:
            yield from line.books()

    def counts(self) -> list[LineCount]:
        """How each line is doing."""
        return [
            LineCount(
                name=line.name,
                is_open=bool(line.current and line.current.is_open),
                topics=len(line.topics),
                messages=line.current.messages if line.current else 0,
                malformed=line.current.malformed if line.current else 0,
                unknown=line.current.unknown if line.current else 0,
                connections=line.connections,
                lost=line.lost,
                replaced=line.replaced,
            )
            for line in self._lines
        ]

    def heard(self) -> Iterator[tuple[Topic, int, float]]:
        """Each topic with its messages on the present connection and the moment (monotonic) of
        the last."""
        for line in self._lines:
            session = line.current
            if session is not None:
                for name, count in session.counts.items():
                    yield session.topics[name], count.messages, count.heard_at

    # -- Which topic is on which line --------------------------------------------------------

    async def _follow(self) -> None:
        """Follow what is wanted; never returns. Raises what ended a line, which nothing should."""
        while True:
            self._changed.clear()
            self._pack()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AT_LINES_S):
                    await self._changed.wait()
            for task in self._lines.values():
                if task.done():
                    task.result()

    def _pack(self) -> None:
        """Put each topic on a line of its group: where it is already, where there is room, or on
        a new line."""
        waiting: dict[tuple[str, str], dict[str, Topic]] = {}
        for key, topic in self._wanted.items():
            if not self._is_refused(key):
                waiting.setdefault((topic.exchange, topic.group), {})[topic.name] = topic
        packed: dict[Line, list[Topic]] = {}
        for line in self._lines:
            group = waiting.get((line.feed.exchange, line.group), {})
            here = [topic.name for topic in line.topics if topic.name in group]
            packed[line] = [group.pop(name) for name in here]
        for (exchange, group_name), topics in waiting.items():
            for topic in topics.values():
                taken = self._room(packed, exchange, group_name)
                if taken is not None:
                    packed[taken].append(topic)
        self._book_lines = {
            (topic.exchange, topic.symbol): line
            for line, topics_here in packed.items()
            for topic in topics_here
            if topic.kind is Kind.BOOK
        }
        for line, topics_here in packed.items():
            self._set_line(line, topics_here)

    def _room(self, packed: dict[Line, list[Topic]], exchange: str, group: str) -> Line | None:
        feed = self._feeds[exchange]
        lines = [line for line in packed if line.feed.exchange == exchange]
        for line in lines:
            if line.group == group and len(packed[line]) < feed.topics_per_connection:
                return line
        # One connection is left for the overlap of an old one and its heir.
        if len(lines) >= feed.most_connections - 1:
            log.error("no_connection_left", exchange=exchange, group=group, lines=len(lines))
            return None
        line = Line(
            feed,
            feed.url(self._urls[exchange], group),
            group=group,
            name=f"{exchange} {group} {next(self._numbers)}",
            heard=self,
            pace=self._pace,
            may_overlap=self._may_overlap,
        )
        packed[line] = []
        return line

    def _set_line(self, line: Line, topics: list[Topic]) -> None:
        if not topics:
            if line in self._lines:
                self._lines.pop(line).cancel()
            return
        if tuple(topics) != line.topics:
            line.follow(topics)
        if line not in self._lines:
            self._lines[line] = asyncio.create_task(line.keep(), name=line.name)

    def _may_overlap(self, line: Line) -> bool:
        return all(
            other.heir is None for other in self._lines if other.feed.exchange == line.feed.exchange
        )

    def _is_refused(self, key: TopicKey) -> bool:
        refused = self._refused.get(key)
        return refused is not None and time.monotonic() < refused.until

    def _book(self, exchange: str, symbol: str) -> KeptBook | None:
        """The book that is kept of a symbol now."""
        line = self._book_lines.get((exchange, symbol))
        if line is None or line.current is None:
            return None
        return line.current.reader.books.get(symbol)

    def _is_kept(self, book: KeptBook) -> bool:
        return self._book(book.exchange, book.symbol) is book

    def _resubscribe(self, book: KeptBook) -> None:
        line = self._book_lines.get((book.exchange, book.symbol))
        if line is None or line.current is None:
            return
        for topic in line.topics:
            if topic.kind is Kind.BOOK and topic.symbol == book.symbol:
                line.current.resubscribe(topic.name)

    # -- What a session says ---------------------------------------------------------------

    def update(self, session: Session, update: Update) -> None:
        """See `stream_session.Heard`."""
        if isinstance(update, KeptBook):
            if not session.is_heir:  # its line judges an heir's books
                self._care_for(update)
            return
        if isinstance(update, Quote):
            if session.is_heir:
                return
            book = self._book(update.exchange, update.symbol)
            if book is not None and book.is_comparable and book.check_top(update):
                self._care_for(book)
        elif isinstance(update, PublicTrade):
            if session.overlaps and self._is_known_trade(update):
                return
        elif isinstance(update, Refusal):
            self._note_refusal(session, update)
        self._outlets.take(update)

    def impossible(self, item: StreamedCandle, reason: str) -> None:
        """See `stream_session.Heard`."""
        self._outlets.reject(item, reason)

    def look_at(self, book: KeptBook) -> None:
        """The book has changed outside of its messages: a comparison has shown it to be wrong. One
        whose connection has been lost or replaced meanwhile concerns nobody any more."""
        if self._is_kept(book):
            self._care_for(book)

    def _care_for(self, book: KeptBook) -> None:
        self._outlets.take_book(book)
        if needs_care(book):
            self._resyncs.care_for(book)

    def _is_known_trade(self, trade: PublicTrade) -> bool:
        """Whether another connection has given the trade already; only asked while two overlap."""
        key = (trade.exchange, trade.symbol, trade.trade_id)
        if key in self._trades:
            return True
        self._trades[key] = None
        if len(self._trades) > MOST_TRADES:
            self._trades.popitem(last=False)
        return False

    def _note_refusal(self, session: Session, refusal: Refusal) -> None:
        """Ask for it again in a while; the book that waits for it says why. Where the venue does
        not say what it refuses, the others of the request must not suffer for it."""
        log.warning(
            "topic_refused", exchange=refusal.exchange, topic=refusal.topic, reason=refusal.reason
        )
        if not refusal.topic:
            session.ask_singly()
            return
        key = (refusal.exchange, refusal.topic)
        topic = self._wanted.get(key)
        if topic is None:
            return
        now, before = time.monotonic(), self._refused.get(key)
        # A venue refuses for a moment too, as while it is restarted.
        is_new = before is None or now > before.until + self._pace.refused_again_s
        times = 0 if before is None or is_new else before.times + 1
        pause = backoff(times, first=self._pace.refused_first_s, longest=self._pace.refused_again_s)
        self._refused[key] = _Refused(times, now + pause)
        book = self._book(topic.exchange, topic.symbol) if topic.kind is Kind.BOOK else None
        if book is not None:
            book.withhold(f"refused: {refusal.reason}"[:200])
            self._outlets.take_book(book)
        self._changed.set()
