"""manage.py stream_market_data: keep the exchanges' streams open and store what they say."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio
import uvloop
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from collectors import clock
from collectors.marketdata import Quote
from collectors.services.shards import ShardKeeper
from collectors.services.stream_process import StreamProcess
from collectors.services.stream_writer import StreamWriter
from collectors.services.streaming import Subscription, stream_subscriptions
from collectors.sources import FEEDS


class Command(BaseCommand):
    """Streams of all enabled instruments, until SIGTERM or SIGINT."""

    # A process that starts with many others: Django's checks would import every page for it.
    requires_system_checks = []
    help = (
        "Stream books, quotes, candles and funding of every enabled instrument from the exchanges "
        "of its source chain until stopped; STREAM_KINDS narrows what. "
        "Example: manage.py stream_market_data --exchanges binance"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--exchanges` narrows the exchanges."""
        parser.add_argument(
            "--exchanges", default="", help=f"some of {', '.join(FEEDS)}, comma separated"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until a signal; wrong exchanges end in one line and exit code 2."""
        wanted = [name.strip() for name in options["exchanges"].split(",") if name.strip()]
        for name in wanted:
            if name not in FEEDS:
                known = ", ".join(FEEDS)
                raise CommandError(f"unknown exchange {name!r}; known: {known}", returncode=2)

        def subscribed() -> list[Subscription]:
            everything = stream_subscriptions(at=clock.now())
            return [item for item in everything if not wanted or item.exchange in wanted]

        if not subscribed():
            raise CommandError("no enabled instrument is listed at an exchange", returncode=2)
        writer, keeper = StreamWriter([]), ShardKeeper()
        with contextlib.ExitStack() as running:
            writer.start()
            running.callback(writer.close)
            keeper.start()
            running.callback(keeper.stop)
            watchers = [running.enter_context(watch) for watch in _watches()]
            uvloop.run(stream_until_stopped(writer, keeper, subscribed, watchers))


def _watches() -> list[contextlib.AbstractContextManager[Callable[[Quote], None]]]:
    """What looks at every quote, named by the settings: collectors know nothing of it."""
    return [import_string(path)() for path in settings.QUOTE_WATCHERS]


async def stream_until_stopped(
    writer: StreamWriter,
    keeper: ShardKeeper,
    subscribed: Callable[[], list[Subscription]],
    watchers: Sequence[Callable[[Quote], None]] = (),
) -> None:
    """Stream until SIGTERM or SIGINT; `subscribed` reads what is wanted now."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_timeout=5) as client:
        process = StreamProcess(
            feeds=FEEDS,
            subscribed=subscribed,
            writer=writer,
            keeper=keeper,
            client=client,
            watchers=watchers,
        )
        await process.run(stop)
