"""manage.py stream_market_data: keep the exchanges' streams open and store what they say."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import redis.asyncio
import structlog
import uvloop
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseFailure
from django.db import close_old_connections
from redis.exceptions import RedisError

from collectors import clock
from collectors.marketdata import Quote
from collectors.selectors import quote_key
from collectors.services.stream_writer import StreamWriter
from collectors.services.streaming import Subscription, stream_subscriptions
from collectors.sources import EXCHANGES, open_channels
from collectors.stream import Channel, MarketStream, MessageReader

log = structlog.get_logger(__name__)

QUOTE_TTL_S = 3600
HEARTBEAT_KEY = "heartbeat:stream"
HEARTBEAT_TTL_S = 30
HEARTBEAT_INTERVAL_S = 5.0
LOOK_INTERVAL_S = 5.0


class Command(BaseCommand):
    """Streams of all enabled instruments, until SIGTERM or SIGINT."""

    help = (
        "Stream candles and quotes of every enabled instrument from the exchanges in "
        "CANDLE_SOURCES until stopped. Example: manage.py stream_market_data --exchanges binance"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--exchanges` narrows the exchanges."""
        parser.add_argument(
            "--exchanges", default="", help=f"some of {', '.join(EXCHANGES)}, comma separated"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until a signal; wrong exchanges end in one line and exit code 2."""
        wanted = [name.strip() for name in options["exchanges"].split(",") if name.strip()]
        for name in wanted:
            if name not in EXCHANGES:
                known = ", ".join(EXCHANGES)
                raise CommandError(f"unknown exchange {name!r}; known: {known}", returncode=2)

        def subscribed() -> list[Subscription]:
            everything = stream_subscriptions(at=clock.now())
            return [item for item in everything if not wanted or item.exchange in wanted]

        subscriptions = subscribed()
        if not subscriptions:
            raise CommandError("no enabled instrument is listed at an exchange", returncode=2)
        writer = StreamWriter(subscriptions)
        writer.start()
        try:
            uvloop.run(stream_until_stopped(subscriptions, writer, subscribed))
        finally:
            writer.close()


async def stream_until_stopped(
    subscriptions: Sequence[Subscription],
    writer: StreamWriter,
    subscribed: Callable[[], list[Subscription]],
) -> None:
    """Stream until SIGTERM or SIGINT; `subscribed` reads what is wanted now."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_timeout=5) as client:
        heartbeat = asyncio.create_task(beat(client))
        stream = MarketStream(
            channels=channels_of(subscriptions),
            on_candle=writer.put,
            on_quotes=functools.partial(publish_quotes, client),
            on_impossible=writer.reject,
        )
        follower = asyncio.create_task(follow_subscriptions(stream, writer, subscribed))
        try:
            await stream.run(stop)
        finally:
            heartbeat.cancel()
            follower.cancel()


async def follow_subscriptions(
    stream: MarketStream, writer: StreamWriter, subscribed: Callable[[], list[Subscription]]
) -> None:
    """Look every few seconds which instruments are enabled and listed, and subscribe to them."""
    read = sync_to_async(subscribed)
    while True:
        await asyncio.sleep(LOOK_INTERVAL_S)
        try:
            subscriptions = await read()
        except DatabaseFailure as error:
            log.warning("subscriptions_not_read", problem=str(error))
            await sync_to_async(close_old_connections)()
            continue
        writer.follow(subscriptions)
        channels = channels_of(subscriptions)
        if list(channels) != list(stream.channels):
            log.info("subscriptions_changed", count=len(subscriptions))
            stream.subscribe(channels)


def channels_of(subscriptions: Sequence[Subscription]) -> list[tuple[Channel, MessageReader]]:
    """The channels of every exchange for the subscriptions."""
    channels: list[tuple[Channel, MessageReader]] = []
    for exchange in EXCHANGES:
        listed = [item for item in subscriptions if item.exchange == exchange]
        channels += open_channels(
            exchange,
            ws_url=settings.PROVIDER_URLS[f"{exchange.upper()}_WS_URL"],
            candles=[
                (item.symbol, frame) for item in listed for frame in item.instrument.timeframes
            ],
            quotes=[item.symbol for item in listed],
        )
    return channels


async def publish_quotes(client: redis.asyncio.Redis, quotes: Sequence[Quote]) -> None:
    """Write the quotes where everybody reads the newest one; a lost write is soon replaced."""
    try:
        async with client.pipeline(transaction=False) as pipe:
            for quote in quotes:
                fields = {**msgspec.structs.asdict(quote), "is_synced": False}
                key = quote_key(quote.exchange, quote.symbol)
                pipe.set(key, msgspec.json.encode(fields), ex=QUOTE_TTL_S)
            await pipe.execute()
    except RedisError as error:
        log.warning("quotes_not_published", count=len(quotes), problem=str(error))


async def beat(client: redis.asyncio.Redis) -> None:
    """Say every few seconds that the event loop is alive."""
    while True:
        with contextlib.suppress(RedisError):  # the key expires, which is what readers look at
            await client.set(HEARTBEAT_KEY, clock.wall_now().isoformat(), ex=HEARTBEAT_TTL_S)
        await asyncio.sleep(HEARTBEAT_INTERVAL_S)
