"""A venue of our own making on a real WebSocket server, for tests of how connections are kept.

Its messages are `{"t": topic, "n": number, ...}`; its requests `+topic` and `-topic`. Books open
with a snapshot, or wait for one over REST where the feed says so.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from collectors.exchange import MalformedPayload
from collectors.feeds import Kind, PublicTrade, Refusal, StreamedCandle, Topic, Update
from collectors.keptbook import KeptBook, Want
from collectors.stream import MarketStream
from collectors.stream_session import Pace
from collectors.venues import DepthSnapshot, Level

AT = datetime(2025, 3, 3, 9, tzinfo=UTC)
GROUPS = {Kind.BOOK: "books", Kind.TOP: "books", Kind.TRADE: "trades"}
FAST = Pace(
    first_backoff_s=0.01, longest_backoff_s=0.05, longest_age_s=3600, join_s=1.0, look_s=0.02
)


class ToyBook(KeptBook):
    """Numbers rise by one; the level at price `number` is what a message adds."""

    wants = Want.RESUBSCRIBE

    def __init__(self, symbol: str) -> None:
        super().__init__("toy", symbol)
        self.numbers: list[int] = []
        self.waiting: list[int] = []

    def take(self, number: int, *, opens: bool) -> bool:
        before = self.is_synced, self.want
        self.messages += 1
        if opens:
            self._begin(number)
        elif not self.is_synced:
            self.waiting.append(number)
            if self.want is Want.WAIT:
                self.want = self.wants
        elif number != self.sequence + 1:
            self.gaps += 1
            self.withhold("a gap")
            self.waiting.append(number)
            self.want = self.wants
        else:
            self.sequence = number
            self.numbers.append(number)
        return before != (self.is_synced, self.want)

    def _begin(self, number: int) -> None:
        self.sequence, self.numbers, self.waiting = number, [number], []
        self.is_synced, self.reason, self.want = True, "", Want.NOTHING

    def take_snapshot(self, snapshot: DepthSnapshot) -> bool:
        later = [number for number in self.waiting if number > snapshot.sequence]
        if later and later[0] != snapshot.sequence + 1:
            return False
        self._begin(snapshot.sequence)
        for number in later:
            self.take(number, opens=False)
        return True

    def expect_snapshot(self) -> None:
        """Its messages are always kept."""

    def check_against(self, snapshot: DepthSnapshot) -> bool | None:
        return None

    def _lose(self, reason: str) -> None:
        self.withhold(reason)

    def withhold(self, reason: str) -> None:
        self.is_synced, self.reason, self.want = False, reason, Want.WAIT
        self.waiting = []

    def adopt(self, other: KeptBook) -> bool:
        later = [number for number in self.waiting if number > other.sequence]
        if not self.waiting or self.waiting[0] > other.sequence + 1:
            return False
        self._begin(other.sequence)
        self.numbers = list(other.numbers)  # type: ignore[attr-defined]
        for number in later:
            self.take(number, opens=False)
        return True


class ToyReader:
    def __init__(self) -> None:
        self.books: dict[str, KeptBook] = {}
        self._symbols: dict[str, str] = {}

    def follow(self, topics: Sequence[Topic]) -> None:
        self._symbols = {topic.name: topic.symbol for topic in topics}
        wanted = {topic.symbol for topic in topics if topic.kind is Kind.BOOK}
        self.books = {s: self.books.get(s) or ToyBook(s) for s in sorted(wanted)}

    def topic_of(self, raw: bytes) -> str:
        try:
            return str(json.loads(raw).get("t", ""))
        except (ValueError, RecursionError):
            return ""

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        try:
            said: dict[str, Any] = json.loads(raw)
        except (ValueError, RecursionError) as problem:
            raise MalformedPayload(str(problem)) from problem
        if "refused" in said:
            return (Refusal("toy", said["refused"], "no such symbol"),)
        kind, _, symbol = said.get("t", "").partition(".")
        if kind == "book":
            book = self.books[symbol]
            changed = isinstance(book, ToyBook) and book.take(said["n"], opens=said.get("opens"))
            return (book,) if changed else ()
        if kind == "trade":
            number = str(said["n"])
            fields = {"exchange": "toy", "symbol": symbol, "trade_id": number, "side": "buy"}
            return (PublicTrade(price=1.0, quantity=1.0, traded_at=AT, **fields),)
        return ()


@dataclass
class ToyFeed:
    """Small limits, so that tests reach them."""

    exchange: str = "toy"
    url_setting: str = "TOY_WS_URL"
    most_connections: int = 4
    topics_per_connection: int = 3
    requests_per_second: float = 500.0
    ping: str = ""
    ping_interval_s: float = 0.05
    is_batched: bool = False
    quiet_s: dict[Kind, float] = field(default_factory=dict)

    def topics(self, symbol: str, *, timeframes: Sequence[str], kinds: set[Kind]) -> list[Topic]:
        return [
            Topic(
                exchange="toy",
                symbol=symbol,
                kind=kind,
                name=f"{kind}.{symbol}",
                group=GROUPS[kind],
                quiet_s=self.quiet_s.get(kind),
            )
            for kind in sorted(kinds)
        ]

    def url(self, ws_url: str, group: str) -> str:
        return f"{ws_url}/{group}"

    def subscribe(self, names: Sequence[str]) -> list[str]:
        if self.is_batched and names:
            return ["+" + " ".join(names)]
        return [f"+{name}" for name in names]

    def unsubscribe(self, names: Sequence[str]) -> list[str]:
        return [f"-{name}" for name in names]

    def reader(self) -> ToyReader:
        return ToyReader()


class ToyVenue:
    """The server. `say` sends a topic's next message to everybody who has subscribed to it."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.open: set[ServerConnection] = set()
        self.requests: list[tuple[int, str]] = []
        self.subscribed: dict[ServerConnection, set[str]] = {}
        self.numbers: dict[str, int] = {}
        self.opens_books = True
        self.accepts = True
        self.refuses: set[str] = set()
        self.names_what_it_refuses = True
        self.hears = True
        self.url = ""

    async def serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        if not self.accepts:
            return
        self.open.add(connection)
        number = len(self.connections)
        self.subscribed[connection] = set()
        try:
            async for message in _messages(connection):
                self.requests.append((number, message))
                await self._answer(connection, message[:1], message[1:])
        finally:
            self.open.discard(connection)

    async def _answer(self, connection: ServerConnection, sign: str, name: str) -> None:
        names = name.split()
        if not self.hears:
            return
        if sign == "-":
            self.subscribed[connection].difference_update(names)
        elif self.refuses.intersection(names):
            refused = name if self.names_what_it_refuses else ""
            await connection.send(json.dumps({"refused": refused}))
        elif sign == "+":
            for name in names:
                self.subscribed[connection].add(name)
                if name.startswith("book.") and self.opens_books:
                    opening = {"t": name, "n": self.numbers.setdefault(name, 1), "opens": True}
                    await connection.send(json.dumps(opening))

    async def say(self, name: str, *, to: Callable[[ServerConnection], bool] | None = None) -> int:
        number = self.numbers[name] = self.numbers.get(name, 0) + 1
        for connection in [each for each in self.open if name in self.subscribed[each]]:
            if to is None or to(connection):
                with contextlib.suppress(ConnectionClosed):
                    await connection.send(json.dumps({"t": name, "n": number}))
        return number

    async def snapshot(self, exchange: str, symbol: str) -> DepthSnapshot:
        level = (Level(1.0, 1.0),)
        sequence = self.numbers.get(f"book.{symbol}", 0)
        return DepthSnapshot(
            exchange=exchange, symbol=symbol, sequence=sequence, bids=level, asks=level
        )


async def _messages(connection: ServerConnection) -> AsyncIterator[str]:
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield str(await connection.recv())


class Listener:
    """A running stream on a toy venue, and all that it has handed out."""

    def __init__(self, venue: ToyVenue, feed: ToyFeed, pace: Pace) -> None:
        self.updates: list[Update] = []
        self.book_states: list[tuple[str, bool, str]] = []
        self.stop = asyncio.Event()
        self.stream = MarketStream(
            {"toy": feed},
            urls={"toy": venue.url},
            outlets=self,
            fetch_snapshot=lambda exchange, symbol: venue.snapshot(exchange, symbol),
            pace=pace,
        )

    def take(self, update: Update) -> None:
        self.updates.append(update)

    def take_book(self, book: KeptBook) -> None:
        self.book_states.append((book.symbol, book.is_synced, book.reason))

    def reject(self, item: StreamedCandle, reason: str) -> None:
        raise AssertionError(reason)

    def book(self, symbol: str) -> ToyBook:
        """The book that is kept now. Raises LookupError while there is none."""
        for book in self.stream.books():
            if book.symbol == symbol and isinstance(book, ToyBook):
                return book
        raise LookupError(symbol)


async def until(condition: Callable[[], Any], timeout_s: float = 8.0) -> None:
    """Wait for a state; what cannot be looked up is not there yet. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            with contextlib.suppress(LookupError):
                if condition():
                    return
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def listening(
    *symbols: str,
    kinds: set[Kind] | None = None,
    feed: ToyFeed | None = None,
    pace: Pace = FAST,
    prepare: Callable[[ToyVenue], Awaitable[None] | None] = lambda venue: None,
) -> AsyncIterator[tuple[ToyVenue, Listener]]:
    """A venue, and a stream that follows these symbols."""
    venue, feed = ToyVenue(), feed or ToyFeed()
    prepare(venue)
    async with serve(venue.serve, "127.0.0.1", 0) as server:
        venue.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        listener = Listener(venue, feed, pace)
        follow(listener, feed, *symbols, kinds=kinds)
        task = asyncio.create_task(listener.stream.run(listener.stop))
        try:
            yield venue, listener
        finally:
            listener.stop.set()
            async with asyncio.timeout(3):
                await task


def follow(
    listener: Listener, feed: ToyFeed, *symbols: str, kinds: set[Kind] | None = None
) -> None:
    """Subscribe to books (or `kinds`) of these symbols."""
    chosen = kinds or {Kind.BOOK}
    listener.stream.subscribe(
        [t for symbol in symbols for t in feed.topics(symbol, timeframes=(), kinds=chosen)]
    )
