"""The stream process: what it follows, and where all that it hears goes.

Quotes and books go to Redis, where everybody reads the newest; candles, settlements, downtimes and
statistics go through the one writer thread to the tables. Nothing here waits for either.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta

import msgspec
import redis.asyncio
import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import close_old_connections
from redis.exceptions import RedisError

from collectors import clock
from collectors.bookdesk import BookDesk
from collectors.bookhours import BookHours, HourPart
from collectors.exchange import ProviderError
from collectors.feeds import Feed, Kind, MarkPrice, PublicTrade, StreamedCandle, Topic, Update
from collectors.keptbook import KeptBook, Want
from collectors.livebook import LiveBook, top_of
from collectors.marketdata import Quote
from collectors.selectors import quote_key
from collectors.services.funding_keys import FundingKeys
from collectors.services.shards import ShardKeeper
from collectors.services.snapshots import Snapshots
from collectors.services.stream_writer import StreamWriter
from collectors.services.streaming import Subscription
from collectors.settlements import CLOSE_ENOUGH, SettlementTracker
from collectors.sharding import shard_of
from collectors.stream import MarketStream
from collectors.stream_session import Pace
from collectors.tape import TapeReader
from collectors.venues import DayTicker

log = structlog.get_logger(__name__)

PUBLISH_INTERVAL_S = 0.1
QUOTE_TTL_S = 3600
HEARTBEAT_KEY = "heartbeat:stream"
HEARTBEAT_TTL_S = 30
HEARTBEAT_INTERVAL_S = 5.0
# An instrument that is switched on is to stream within five seconds.
LOOK_INTERVAL_S = 2.0
LOOK_AT_SHARDS_S = 0.25
SLOW_INTERVAL_S = 5.0
# What a book was last said to be stands no longer than that.
LONGEST_UNSAID = timedelta(seconds=30)
# Market time between two comparisons of a book with the venue's own, over all books in turn:
# every comparison is a call.
CHECK_EVERY = timedelta(hours=8)
SECOND = timedelta(seconds=1)
REPORT_INTERVAL_S = 60.0
LONGEST_END_S = 3.0

BookKey = tuple[str, str]  # exchange, symbol


class StreamProcess:
    """One process of streams: `run` until told to stop.

    `subscribed` reads what all processes are to follow now (in a thread: it asks the database);
    this one follows those whose shards `keeper` holds, and neither writes nor publishes others.
    `watchers` are called with every quote at once; they must not block.
    """

    def __init__(
        self,
        *,
        feeds: Mapping[str, Feed],
        subscribed: Callable[[], list[Subscription]],
        writer: StreamWriter,
        keeper: ShardKeeper,
        client: redis.asyncio.Redis,
        pace: Pace | None = None,
        watchers: Sequence[Callable[[Quote], None]] = (),
    ) -> None:
        self._watchers = watchers
        self._feeds = feeds
        self._subscribed = subscribed
        self._writer = writer
        self._keeper = keeper
        self._client = client
        self._stop = asyncio.Event()
        self._snapshots = Snapshots()
        market = clock.current()
        self._desk = BookDesk(on_downtime=writer.put_downtime, market=market)
        self._hours = BookHours(longest=market.widen(LONGEST_UNSAID))
        self._settlements = SettlementTracker(close_enough=market.widen(CLOSE_ENOUGH))
        self._funding = FundingKeys(client)
        self._marks: dict[BookKey, MarkPrice] = {}
        self._coins: dict[BookKey, str] = {}
        self._tapes: dict[BookKey, TapeReader] = {}
        self._subscriptions: list[Subscription] = []
        self.stream = MarketStream(
            feeds,
            urls={name: settings.PROVIDER_URLS[feed.url_setting] for name, feed in feeds.items()},
            outlets=self,
            fetch_snapshot=self._snapshots.fetch,
            pace=pace,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Stream until `stop` is set; then say that nothing is followed any more."""
        works = (
            self._follow,
            self._publish,
            self._publish_slowly,
            self._check_books,
            self._beat,
            self._report,
        )
        self._stop = stop
        tasks = [asyncio.create_task(work(), name=work.__name__) for work in works]
        tasks.append(asyncio.create_task(self.stream.run(stop), name="stream"))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            stop.set()
            # They end by themselves: cut short, a write would leave its connection open.
            _, stuck = await asyncio.wait(tasks, timeout=LONGEST_END_S)
            for task in stuck:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end()

    async def _goes_on(self, pause_s: float) -> bool:
        """Wait so long, or until the end; whether it is not the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stop.wait()
        return not self._stop.is_set()

    # -- What the streams say ----------------------------------------------------------------

    def take(self, update: Update) -> None:
        """See `collectors.stream.Outlets`."""
        match update:
            case Quote():
                self._desk.take_top(update)
                self._watch(update)
            case StreamedCandle():
                if self._is_ours(update):
                    self._writer.put(update)
            case MarkPrice():
                self._marks[update.exchange, update.symbol] = update
                settlement = self._settlements.note(update, now=clock.now())
                if settlement is not None and self._is_ours(update):
                    self._writer.put_settlement(settlement)
                    self._funding.note(settlement)
            case PublicTrade():
                self._tape(update.exchange, update.symbol).take_trade(update, time.monotonic())
            case DayTicker():
                self._tape(update.exchange, update.symbol).take_day(update)

    def _watch(self, quote: Quote) -> None:
        for watcher in self._watchers:
            try:
                watcher(quote)
            except Exception:
                # Whoever watches must not end the streams of all.
                log.exception("quote_not_watched", symbol=quote.symbol)

    def take_book(self, book: KeptBook) -> None:
        """See `collectors.stream.Outlets`."""
        self._desk.take_book(book, clock.wall_now())

    def reject(self, item: StreamedCandle, reason: str) -> None:
        """See `collectors.stream.Outlets`."""
        self._writer.reject(item, reason)

    def _tape(self, exchange: str, symbol: str) -> TapeReader:
        key = (exchange, symbol)
        if key not in self._tapes:
            self._tapes[key] = TapeReader(exchange, symbol)
        return self._tapes[key]

    # -- What is followed --------------------------------------------------------------------

    async def _follow(self) -> None:
        """Look every moment which instruments are enabled and listed, and follow those."""
        read = sync_to_async(self._subscribed)
        held, next_look = None, 0.0
        while await self._goes_on(LOOK_AT_SHARDS_S):
            if held == self._keeper.held() and time.monotonic() < next_look:
                continue
            held, next_look = self._keeper.held(), time.monotonic() + LOOK_INTERVAL_S
            try:
                subscriptions = [
                    item for item in await read() if self._keeper.holds(item.instrument.coin_id)
                ]
            except DatabaseFailure as error:
                log.warning("subscriptions_not_read", problem=str(error))
                await sync_to_async(close_old_connections)()
            else:
                if _said(subscriptions) != _said(self._subscriptions):
                    await self._set(subscriptions)
                coins = {item.instrument.coin_id for item in subscriptions}
                self._keeper.confirm({shard_of(coin, self._keeper.shards) for coin in coins})

    async def _set(self, subscriptions: list[Subscription]) -> None:
        log.info("subscriptions_changed", count=len(subscriptions))
        self._subscriptions = subscriptions
        self._writer.follow(subscriptions)
        self._coins = {
            (item.exchange, item.symbol): item.instrument.coin_id for item in subscriptions
        }
        topics = topics_of(subscriptions, feeds=self._feeds, kinds=settings.STREAM_KINDS)
        keys = {(item.exchange, item.symbol) for item in subscriptions}
        booked = {(t.exchange, t.symbol) for t in topics if t.kind in (Kind.BOOK, Kind.TOP)}
        dropped = self._desk.follow(booked, clock.wall_now())
        for key in dropped:
            self._hours.drop(*key, clock.now())
        for known in (self._marks, self._tapes):
            for key in [key for key in known if key not in keys]:
                del known[key]
        self.stream.subscribe(topics)
        await self._forget(dropped)

    # -- What everybody reads ----------------------------------------------------------------

    async def _publish(self) -> None:
        """Write the books that have changed, at most every 100 ms; a lost write is repeated."""
        while await self._goes_on(PUBLISH_INTERVAL_S):
            found = self._desk.due(clock.wall_now())
            if Kind.TOP not in settings.STREAM_KINDS:
                for quote in filter(None, map(top_of, found)):
                    self._watch(quote)
            at = clock.now()
            for (exchange, symbol), state in self._desk.states():
                self._hours.note(exchange, symbol, at, state)
            values = {
                quote_key(book.exchange, book.symbol): book for book in found if self._is_ours(book)
            }
            if not await self._write(values, QUOTE_TTL_S):
                # A book that is not synchronised any more must not look so until it says more.
                self._desk.say_again((book.exchange, book.symbol) for book in values.values())

    async def _publish_slowly(self) -> None:
        """Funding, trades and statistics, every few seconds."""
        while await self._goes_on(SLOW_INTERVAL_S):
            now = time.monotonic()
            tapes = {
                tape_key(*key): reader.tape(now, wall=clock.wall_now())
                for key, reader in self._tapes.items()
                if reader.is_new
            }
            await self._write(tapes, QUOTE_TTL_S)
            self._put_statistics()
            await self._funding.publish([m for m in self._marks.values() if self._is_ours(m)])

    async def _write(self, values: Mapping[str, object], ttl_s: int) -> bool:
        """Whether Redis has them."""
        if not values:
            return True
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for key, value in values.items():
                    pipe.set(key, msgspec.json.encode(value), ex=ttl_s)
                await pipe.execute()
        except RedisError as error:
            log.warning("live_values_not_written", count=len(values), problem=str(error)[:200])
            return False
        return True

    def _put_statistics(self) -> None:
        """Hand over what the books' hours have added up to, up to now."""
        parts = self._hours.take(clock.now())
        self._writer.put_statistics([part for part in parts if self._is_ours(part)])

    def _is_ours(self, item: Quote | StreamedCandle | MarkPrice | LiveBook | HourPart) -> bool:
        """Whether this process still holds what the item is of: another may have taken over while
        this one was paused."""
        coin_id = self._coins.get((item.exchange, item.symbol))
        return coin_id is not None and self._keeper.holds(coin_id)

    async def _forget(self, keys: Sequence[tuple[str, str]]) -> None:
        """What is not followed any more must not look alive."""
        if not keys:
            return
        try:
            await self._client.delete(*(quote_key(*key) for key in keys))
        except RedisError as error:
            log.info("live_values_not_deleted", count=len(keys), problem=str(error)[:200])

    # -- The process itself ------------------------------------------------------------------

    async def _check_books(self) -> None:
        """Compare one book after the other with what its venue says over REST."""
        checked: dict[tuple[str, str], int] = {}
        turn = 0
        every_s = max(CHECK_EVERY / clock.current().speed / SECOND, 1.0)
        while await self._goes_on(every_s):
            books = [
                book
                for book in self.stream.books()
                if book.is_comparable and book.is_synced and book.want is Want.NOTHING
            ]
            if not books:
                continue
            turn += 1
            book = min(books, key=lambda each: checked.get((each.exchange, each.symbol), 0))
            checked[book.exchange, book.symbol] = turn
            book.expect_snapshot()
            try:
                snapshot = await self._snapshots.fetch(book.exchange, book.symbol)
            except ProviderError as error:
                log.info("book_not_checked", symbol=book.symbol, problem=str(error)[:200])
            except Exception:
                # What is wrong with one comparison must not end the streams.
                log.exception("book_not_checked", symbol=book.symbol)
            else:
                agrees = book.check_against(snapshot)
                log.info("book_checked", exchange=book.exchange, symbol=book.symbol, agrees=agrees)
                if agrees is False:
                    self.stream.look_at(book)

    async def _beat(self) -> None:
        """Say every few seconds that the event loop is alive, as long as what it hears is stored.
        Raises RuntimeError when it is not: a new process has a new writer."""
        while True:
            if not self._writer.is_alive():
                raise RuntimeError("the writer thread has ended")
            with contextlib.suppress(RedisError):  # the key expires, which is what readers look at
                said = clock.wall_now().isoformat()
                await self._client.set(HEARTBEAT_KEY, said, ex=HEARTBEAT_TTL_S)
            if not await self._goes_on(HEARTBEAT_INTERVAL_S):
                return

    async def _report(self) -> None:
        while await self._goes_on(REPORT_INTERVAL_S):
            for count in self.stream.counts():
                log.info("stream_counts", **vars(count))

    async def _end(self) -> None:
        """Leave no book that looks alive and no downtime that nobody ends."""
        self._snapshots.close()
        await self._forget(self._desk.follow((), clock.wall_now()))
        self._put_statistics()


def topics_of(
    subscriptions: Sequence[Subscription], *, feeds: Mapping[str, Feed], kinds: Collection[str]
) -> list[Topic]:
    """What to subscribe to for these symbols."""
    return [
        topic
        for item in subscriptions
        if item.exchange in feeds
        for topic in feeds[item.exchange].topics(
            item.symbol, timeframes=item.instrument.timeframes, kinds={Kind(kind) for kind in kinds}
        )
    ]


def tape_key(exchange: str, symbol: str) -> str:
    """The Redis key of what has been traded lately."""
    return f"tape:{exchange}:{symbol}"


def _said(subscriptions: Sequence[Subscription]) -> list[tuple[object, ...]]:
    """All that a change of which changes what is followed: instruments compare by their id."""
    return [
        (
            item.instrument.coin_id,
            *item.instrument.timeframes,
            item.exchange,
            item.symbol,
            item.rank,
        )
        for item in subscriptions
    ]
