"""How long-lived market data connections are kept: subscribe, read, notice silence, reconnect.

The venue's module says what to connect to (`Channel`) and what a message means (a reader); this
module knows no venue. Closed candles and quotes are handed to the caller's callables, which must
not block.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from collectors import clock
from collectors.exchange import MalformedPayload
from collectors.feeds import StreamedCandle as StreamedCandle
from collectors.marketdata import Quote
from collectors.quality import check_bar, check_quote

log = structlog.get_logger(__name__)

SILENCE_LIMIT_S = 30.0
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
QUOTE_INTERVAL_S = 0.05
REPORT_INTERVAL_S = 60.0


Update = Quote | StreamedCandle
# Raises MalformedPayload, and nothing else, for a message that cannot be read or true.
MessageReader = Callable[[bytes, datetime], Sequence[Update]]


class ImpossibleCandle(MalformedPayload):
    """A streamed candle whose values cannot be true, and why not."""

    def __init__(self, item: StreamedCandle, reason: str) -> None:
        super().__init__(f"{reason}: {item}")
        self.item = item
        self.reason = reason


def possible(update: Update) -> Update:
    """The update itself. Raises MalformedPayload when its values cannot be true, as
    ImpossibleCandle when it is a candle."""
    if isinstance(update, Quote):
        if reason := check_quote(update):
            raise MalformedPayload(f"{reason}: {update}")
    elif reason := check_bar(update.candle, timeframe=update.timeframe):
        raise ImpossibleCandle(update, reason)
    return update


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One connection: its address, what to send after connecting, and the venue's own ping."""

    name: str
    url: str
    requests: tuple[str, ...]
    ping: str = ""
    ping_interval_s: float = 20.0


@dataclass
class ChannelCounts:
    """What happened on one channel since the last report."""

    messages: int = 0
    connections: int = 0
    malformed: int = 0


@dataclass
class MarketStream:
    """All channels of one process; `subscribe` changes them while it runs.

    `on_candle` takes a closed candle; `on_quotes` takes the newest quote of every symbol that
    changed, at most every 50 ms; `on_impossible` takes a closed candle that cannot be true, and
    the reason. All are called in the event loop.
    """

    channels: Sequence[tuple[Channel, MessageReader]]
    on_candle: Callable[[StreamedCandle], None]
    on_quotes: Callable[[Sequence[Quote]], Awaitable[None]]
    on_impossible: Callable[[StreamedCandle, str], None] = lambda item, reason: None
    silence_limit_s: float = SILENCE_LIMIT_S
    first_backoff_s: float = FIRST_BACKOFF_S
    counts: dict[str, ChannelCounts] = field(default_factory=dict)
    _newest: dict[tuple[str, str], Quote] = field(default_factory=dict)
    _has_changed: asyncio.Event = field(default_factory=asyncio.Event)
    _kept: dict[str, tuple[Channel, asyncio.Task[None]]] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep every channel connected until `stop` is set, then close them all."""
        async with asyncio.TaskGroup() as group:
            others = [
                group.create_task(self._hand_out_quotes()),
                group.create_task(self._report()),
                group.create_task(self._follow_channels(group)),
            ]
            await stop.wait()
            for task in [*others, *(task for _, task in self._kept.values())]:
                task.cancel()

    def subscribe(self, channels: Sequence[tuple[Channel, MessageReader]]) -> None:
        """Keep these channels from now on. Those that have changed are connected anew, and what
        they miss meanwhile is the gap repair's; the others are left alone."""
        self.channels = channels
        self._has_changed.set()

    async def _follow_channels(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._has_changed.clear()
            wanted = {channel.name: (channel, reader) for channel, reader in self.channels}
            for name, (channel, task) in list(self._kept.items()):
                if name not in wanted or wanted[name][0] != channel:
                    task.cancel()
                    del self._kept[name]
            for name, (channel, reader) in wanted.items():
                if name not in self._kept:
                    task = group.create_task(self._keep_connected(channel, reader))
                    self._kept[name] = (channel, task)
            await self._has_changed.wait()

    async def _keep_connected(self, channel: Channel, reader: MessageReader) -> None:
        counts = self.counts.setdefault(channel.name, ChannelCounts())
        failures = 0
        while True:
            seen = counts.messages
            try:
                await self._read_until_lost(channel, reader, counts)
            except (OSError, WebSocketException, TimeoutError) as error:
                if counts.messages > seen:
                    failures = 0
                pause = backoff(failures, first=self.first_backoff_s)
                failures += 1
                log.warning(
                    "stream_reconnects",
                    channel=channel.name,
                    reason=f"{type(error).__name__}: {error}"[:200],
                    pause_s=round(pause, 2),
                )
                await asyncio.sleep(pause)

    async def _read_until_lost(
        self, channel: Channel, reader: MessageReader, counts: ChannelCounts
    ) -> None:
        """Raises OSError, WebSocketException, or TimeoutError after silence; never returns."""
        local = urlsplit(channel.url).hostname in {"127.0.0.1", "localhost"}
        async with connect(
            channel.url, open_timeout=10, close_timeout=0.5, proxy=None if local else True
        ) as connection:
            counts.connections += 1
            for request in channel.requests:
                await connection.send(request)
            log.info("stream_connected", channel=channel.name, requests=len(channel.requests))
            async with _pinging(connection, channel):
                while True:
                    async with asyncio.timeout(self.silence_limit_s):
                        raw = await connection.recv(decode=False)
                    counts.messages += 1
                    self._take(channel, reader, counts, raw)

    def _take(
        self, channel: Channel, reader: MessageReader, counts: ChannelCounts, raw: bytes
    ) -> None:
        try:
            updates = reader(raw, clock.wall_now())
        except MalformedPayload as error:
            counts.malformed += 1
            log.warning("stream_message_malformed", channel=channel.name, problem=str(error))
            if isinstance(error, ImpossibleCandle):
                self.on_impossible(error.item, error.reason)
            return
        for update in updates:
            if isinstance(update, Quote):
                self._newest[update.exchange, update.symbol] = update
            else:
                self.on_candle(update)

    async def _hand_out_quotes(self) -> None:
        while True:
            await asyncio.sleep(QUOTE_INTERVAL_S)
            if self._newest:
                quotes = list(self._newest.values())
                self._newest.clear()
                await self.on_quotes(quotes)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            for name, counts in self.counts.items():
                log.info("stream_counts", channel=name, **vars(counts))


def backoff(failures: int, *, first: float = FIRST_BACKOFF_S) -> float:
    """Seconds before the next attempt after `failures` earlier ones: doubling, capped, with
    jitter so that many clients do not return at once."""
    return float(min(first * 2 ** min(failures, 10), LONGEST_BACKOFF_S) * random.uniform(0.5, 1))


@contextlib.asynccontextmanager
async def _pinging(connection: ClientConnection, channel: Channel):  # type: ignore[no-untyped-def]
    """Send the venue's own ping at its interval while the block runs."""
    if not channel.ping:
        yield
        return

    async def ping() -> None:
        with contextlib.suppress(WebSocketException):  # the reader sees the loss and reconnects
            while True:
                await asyncio.sleep(channel.ping_interval_s)
                await connection.send(channel.ping)

    task = asyncio.create_task(ping())
    try:
        yield
    finally:
        task.cancel()
