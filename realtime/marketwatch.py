"""The newest books of all watched symbols, read once for all clients of this process.

One task asks Redis for the watched keys five times a second and wakes who follows a symbol of which
something has changed, or of which nothing was said for some seconds. The text of a message is made
once for each number of levels. What a client was too slow for is not kept: it takes the newest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import redis.asyncio
import structlog
from channels.db import database_sync_to_async
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from collectors import clock
from collectors.livebook import UNREACHABLE, LiveBook, cut, is_silent, judge, silenced
from collectors.selectors import BookListing, book_listings, quote_key
from realtime.messages import MarketUpdate, encode

INTERVAL_S = 0.2
SIGN_OF_LIFE = timedelta(seconds=3)
LISTINGS_INTERVAL_S = 30.0
REDIS_TIMEOUT_S = 1.0

log = structlog.get_logger(__name__)


def find_listings(name: str) -> list[BookListing]:
    """The symbols now called `name`, else those of the coin with that id; empty without any."""
    return book_listings(at=clock.now(), name=name)


class Market:
    """The newest of one watched name. `version` rises with everything that is worth a message; it
    is 0 until the first look."""

    def __init__(self, name: str, listings: Sequence[BookListing]) -> None:
        self.name = name
        self.listings = tuple(listings)
        self.version = 0
        self.followers = 0
        self._books: dict[str, LiveBook] = {}
        self._seen: tuple[bytes | None, ...] | None = None
        self._told_at = datetime.min.replace(tzinfo=UTC)
        self._texts: dict[int, str] = {}
        self._renewed = asyncio.Event()

    @property
    def keys(self) -> list[str]:
        """The Redis keys of the listings, in their order."""
        return [quote_key(item.exchange, item.symbol) for item in self.listings]

    @property
    def exchanges(self) -> tuple[str, ...]:
        """Where the symbol is listed and streamed from."""
        return tuple(item.exchange for item in self.listings if item.is_followed)

    async def newer_than(self, version: int) -> None:
        """Wait until there is something that who has seen `version` has not."""
        while self.version <= version:
            await self._renewed.wait()

    def text(self, levels: int) -> str:
        """The message with the best `levels` of each side, made when it is first asked for."""
        if levels not in self._texts:
            books = {exchange: cut(book, levels) for exchange, book in self._books.items()}
            update = MarketUpdate(symbol=self.name, at=self._told_at, exchanges=books)
            self._texts[levels] = encode(update)
        return self._texts[levels]

    def take(self, values: Mapping[str, bytes | None] | None, *, now: datetime) -> None:
        """Take what Redis holds at `now` (wall time), None while it does not answer."""
        seen = None if values is None else tuple(values.get(key) for key in self.keys)
        books = self._lost_books() if seen is None else self._judged(seen, now)
        self._seen = seen
        if books != self._books or now - self._told_at >= SIGN_OF_LIFE:
            self._books = books
            self._told_at = now
            self._texts.clear()
            self.version += 1
            # Whoever waits holds the old event; a client that comes later waits for the next.
            self._renewed.set()
            self._renewed = asyncio.Event()

    def _judged(self, seen: tuple[bytes | None, ...], now: datetime) -> dict[str, LiveBook]:
        before = self._seen or (None,) * len(seen)
        books = {}
        for place, (item, raw) in enumerate(zip(self.listings, seen, strict=True)):
            known = self._books.get(item.exchange)
            is_same = place < len(before) and raw is not None and raw == before[place]
            if known is not None and is_same and not is_silent(known, now=now):
                books[item.exchange] = known
            elif raw is not None or item.is_followed:
                books[item.exchange] = judge(
                    raw, exchange=item.exchange, symbol=item.symbol, now=now
                )
        return books

    def _lost_books(self) -> dict[str, LiveBook]:
        nothing = {
            item.exchange: LiveBook(exchange=item.exchange, symbol=item.symbol)
            for item in self.listings
            if item.is_followed
        }
        return {
            exchange: silenced(book, UNREACHABLE)
            for exchange, book in (nothing | self._books).items()
        }


class MarketWatch:
    """All watched markets of the process, and the tasks that keep them new; of one event loop."""

    def __init__(self) -> None:
        self._markets: dict[str, Market] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._wanted = asyncio.Event()
        self._is_lost = False

    @contextmanager
    def following(self, name: str, listings: Sequence[BookListing]) -> Iterator[Market]:
        """The market of that name, kept new while the block runs."""
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._read()),
                asyncio.create_task(self._follow_listings()),
            ]
        market = self._markets.setdefault(name, Market(name, listings))
        market.followers += 1
        self._wanted.set()
        try:
            yield market
        finally:
            market.followers -= 1
            if market.followers == 0:
                del self._markets[name]

    async def _read(self) -> None:
        client = redis.asyncio.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )
        async with client:
            while True:
                if not self._markets:
                    self._wanted.clear()
                    await self._wanted.wait()
                try:
                    await self._look(client)
                except Exception:
                    # Whatever it is, the clients of other symbols must go on.
                    log.exception("markets_not_read")
                await asyncio.sleep(INTERVAL_S)

    async def _look(self, client: redis.asyncio.Redis) -> None:
        keys = list({key: None for market in self._markets.values() for key in market.keys})
        values: dict[str, bytes | None] | None = None
        try:
            values = dict(zip(keys, await client.mget(keys), strict=True))
        except (RedisError, OSError) as error:
            if not self._is_lost:
                log.error("markets_not_readable", problem=str(error))
        else:
            if self._is_lost:
                log.info("markets_readable_again")
        self._is_lost = values is None
        now = clock.wall_now()
        for market in list(self._markets.values()):
            # A market that has come, or changed its symbols, since the keys were asked for waits.
            if values is None or all(key in values for key in market.keys):
                market.take(values, now=now)

    async def _follow_listings(self) -> None:
        """Notice symbols that appear, change or end while they are watched."""
        while True:
            await asyncio.sleep(LISTINGS_INTERVAL_S)
            for market in list(self._markets.values()):
                try:
                    listings = await database_sync_to_async(find_listings)(market.name)
                except Exception as error:
                    log.warning("listings_not_read", name=market.name, problem=str(error))
                    continue
                # One that has ended stays, and is told not to be streamed.
                market.listings = tuple(listings) or market.listings


WATCH = MarketWatch()
