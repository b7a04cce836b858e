"""A stream process in the test's own event loop, and what everybody can read of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import redis.asyncio
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections

from collectors import clock
from collectors.keptbook import KeptBook
from collectors.livebook import LiveBook
from collectors.marketdata import Quote
from collectors.selectors import quote_key
from collectors.services.shards import ShardKeeper
from collectors.services.stream_process import StreamProcess
from collectors.services.stream_writer import StreamWriter
from collectors.services.streaming import stream_subscriptions
from collectors.sources import FEEDS
from collectors.stream_session import Pace
from tests.collectors.worlds import SandboxWorld

# The book topic of an exchange, as faults match it and as the sandbox names it.
TOPICS = {
    "binance": "btcusdt@depth@100ms",
    "bybit": "orderbook.200.BTCUSDT",
    "binance_spot": "btcusdt@depth@100ms",
    "bybit_spot": "orderbook.200.BTCUSDT",
}
QUICK = Pace(first_backoff_s=0.1, longest_backoff_s=0.5, look_s=0.1)


class Running:
    """A running process, and what everybody can read of it."""

    def __init__(self, process: StreamProcess, client: redis.asyncio.Redis) -> None:
        self.process = process
        self.client = client

    def kept(self, exchange: str, symbol: str = "BTCUSDT") -> KeptBook:
        """Raises LookupError while there is none."""
        for book in self.process.stream.books():
            if (book.exchange, book.symbol) == (exchange, symbol):
                return book
        raise LookupError(exchange)

    async def served(self, exchange: str, symbol: str = "BTCUSDT") -> LiveBook | None:
        raw = await self.client.get(quote_key(exchange, symbol))
        return None if raw is None else msgspec.json.decode(raw, type=LiveBook)

    async def serves(
        self,
        exchange: str,
        accepts: Callable[[LiveBook], bool],
        *,
        symbol: str = "BTCUSDT",
        timeout_s: float = 8.0,
    ) -> LiveBook:
        """The first served value that is accepted."""
        async with asyncio.timeout(timeout_s):
            while True:
                value = await self.served(exchange, symbol)
                if value is not None and accepts(value):
                    return value
                await asyncio.sleep(0.01)

    async def is_true(self, world: SandboxWorld, exchange: str, symbol: str = "BTCUSDT") -> None:
        """Wait until the kept book can be compared with the world's, and compare all levels."""
        topic = TOPICS[exchange].replace("btcusdt", symbol.lower()).replace("BTCUSDT", symbol)
        async with asyncio.timeout(8):
            while True:
                truth = await asyncio.to_thread(world.book, exchange, symbol)
                with contextlib.suppress(LookupError):
                    kept = self.kept(exchange, symbol)
                    if kept.is_synced and kept.sequence == truth["topics"][topic]:
                        break
                await asyncio.sleep(0.005)
        levels = 200 if exchange.startswith("bybit") else 10_000
        for side, best in (("bids", kept.book.best_bids), ("asks", kept.book.best_asks)):
            found = [(float(price), float(size)) for price, size in truth[side][:levels]]
            assert best(levels)[: len(found)] == found, (exchange, side)


@contextlib.asynccontextmanager
async def running(
    pace: Pace = QUICK, watchers: Sequence[Callable[[Quote], None]] = ()
) -> AsyncIterator[Running]:
    """A stream process of all that is enabled."""
    writer, keeper = StreamWriter([]), ShardKeeper()
    writer.start()
    keeper.start()
    stop = asyncio.Event()
    async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client:
        process = StreamProcess(
            feeds=FEEDS,
            subscribed=lambda: stream_subscriptions(at=clock.now()),
            writer=writer,
            keeper=keeper,
            client=client,
            pace=pace,
            watchers=watchers,
        )
        task = asyncio.create_task(process.run(stop))
        try:
            yield Running(process, client)
        finally:
            stop.set()
            try:
                async with asyncio.timeout(10):
                    await task
            finally:
                await asyncio.to_thread(writer.close)
                await asyncio.to_thread(keeper.stop)
                await sync_to_async(connections.close_all)()
