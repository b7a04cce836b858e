"""The stream process on live sockets: load at many times the real rate, closes of candles, memory.

A sandbox of its own process speaks to a stream process in this one, at the speed of the wall
clock. Everything is real but the market: sockets, PostgreSQL, the Redis-protocol server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import redis.asyncio
import uvloop
from django.conf import settings

from benchmarks.measures import Measure
from benchmarks.stream_soak import free_port, slope_per_hour
from collectors import clock
from collectors.feeds import Kind
from collectors.livebook import LiveBook
from collectors.marketdata import Candle, duration
from collectors.models import Instrument, Listing
from collectors.services.shards import ShardKeeper
from collectors.services.stream_process import StreamProcess
from collectors.services.stream_writer import StreamWriter
from collectors.services.streaming import stream_subscriptions
from collectors.sources import EXCHANGES, FEEDS

PROJECT = Path(__file__).resolve().parent.parent
START = datetime(2025, 3, 3, 10, 37, tzinfo=UTC)
# The sandbox's own messages of a book a second; 20 symbols need six coins more than usual.
REAL_RATE, MORE_COINS, SYMBOLS = 10.0, 6, 20
# A sandbox that is late leaves messages out: a little more is asked for than is claimed.
LOAD, ASKED, LOAD_S = 10, 11, 60.0
LONG, LONG_S = 4, 1800.0
SETTLING_S = 15.0
MOST_LATER_S = 0.05
MOST_SERVED_S, MOST_STORED_S, MOST_GROWTH_MIB_H = 0.5, 2.0, 30.0
MIB = 1024.0


@dataclass
class Heard:
    """What a run has shown. Latencies in seconds: `lag` from a message's stamp, which has whole
    milliseconds, to its reading; `served` from the reading of a book's newest message until
    everybody could read the book: both only where `keeps_latencies`, as what is kept grows."""

    keeps_latencies: bool = False
    seconds: float = 0.0
    cpu_s: float = 0.0
    messages: dict[str, int] = field(default_factory=dict)  # by kind
    lag: list[tuple[float, float]] = field(default_factory=list)  # at, seconds
    served: list[float] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)  # from the close to the commit, per candle
    memory: list[tuple[float, float]] = field(default_factory=list)  # at, MiB
    books: int = 0
    withheld: int = 0
    lost: int = 0


class _Watched(StreamProcess):
    """A stream process that notes when books became readable."""

    heard: Heard

    async def _write(self, values: Mapping[str, object], ttl_s: int) -> bool:
        is_written = await super()._write(values, ttl_s)
        if not self.heard.keeps_latencies:
            return is_written
        now = clock.wall_now()
        for book in values.values():
            if not isinstance(book, LiveBook) or not book.is_synced:
                continue
            if book.received_at is not None and book.event_time is not None:
                self.heard.served.append((now - book.received_at).total_seconds())
                lag = book.received_at - clock.current().wall(book.event_time)
                self.heard.lag.append((time.monotonic(), lag.total_seconds()))
        return is_written


class _TimedWriter(StreamWriter):
    """A writer that notes how long after its close each candle was stored."""

    heard: Heard

    def _store(self, timeframe: str, candles: dict[Instrument, list[Candle]]) -> None:
        super()._store(timeframe, candles)
        now = clock.now()
        for batch in candles.values():
            for candle in batch:
                closed = candle.open_time + duration(timeframe)
                self.heard.stored.append((now - closed).total_seconds())


def measure_load(seconds: float = LOAD_S) -> list[Measure]:
    """20 symbols x 2 exchanges, books at ten times their real rate."""
    heard = _run(
        Heard(keeps_latencies=True), rate=ASKED, seconds=seconds, kinds=("book",), timeframes=()
    )
    half = len(heard.lag) // 2
    early, late = (
        statistics.median([lag for _, lag in part]) for part in (heard.lag[:half], heard.lag[half:])
    )
    wanted = SYMBOLS * 2 * REAL_RATE * LOAD * heard.seconds
    told = (
        f"{heard.books} books, {heard.messages['book'] / heard.seconds:,.0f} messages/s"
        f" ({heard.messages['book'] / wanted:.0%} of the load claimed), {heard.withheld} withheld"
        f" at the end, {heard.cpu_s / heard.seconds:.0%} of a core; stamp to reading p50"
        f" {_at(heard.lag, 0.5):.1f} p99 {_at(heard.lag, 0.99):.1f} ms, second half beside first"
        f" {(late - early) * 1000:+.1f} ms"
    )
    return [
        Measure("load: share of a core", heard.cpu_s / heard.seconds, 1.0, "cores", 1.0, told),
        Measure(
            "load: what is claimed beside what came",
            wanted, heard.messages["book"], "msgs", 1.0,
        ),
        Measure("load: lag grown over the run", max(late - early, 0.0), MOST_LATER_S, "s", 1.0),
        Measure("load: socket to served, p50", _of(heard.served, 0.5), MOST_SERVED_S, "s", 1.0),
        Measure("load: socket to served, p99", _of(heard.served, 0.99), MOST_SERVED_S, "s", 1.0),
    ]  # fmt: skip


def measure_live(parts: Sequence[str]) -> list[Measure]:
    """The named parts, `load` and `long`, one after the other."""
    works = {"load": measure_load, "long": measure_long}
    return [each for part in parts for each in works[part]()]


def measure_long(seconds: float = LONG_S) -> list[Measure]:
    """Everything at four times the real rate: memory, and closes of one-minute candles."""
    kinds = tuple(kind.value for kind in Kind)
    heard = _run(Heard(), rate=LONG, seconds=seconds, kinds=kinds, timeframes=("1m",))
    settled = [(at, mib) for at, mib in heard.memory if at - heard.memory[0][0] >= seconds / 5]
    slope = slope_per_hour(settled) or 0.0
    curve = ", ".join(f"{mib:.0f}" for _, mib in heard.memory[:: max(len(heard.memory) // 10, 1)])
    closes = len(heard.stored)
    told = f"{closes} candles stored; p50 {_of(heard.stored, 0.5):.3f} s"
    return [
        Measure(
            "candle close to stored row, p99", _of(heard.stored, 0.99), MOST_STORED_S, "s", 1.0,
            told,
        ),
        Measure(
            "memory growth, beside the bound", max(slope, 0.0), MOST_GROWTH_MIB_H, "MiB/h", 1.0,
            f"{slope:+.1f} MiB/h over {seconds / 60:.0f} minutes; MiB along the way: {curve};"
            f" {sum(heard.messages.values()) / heard.seconds:,.0f} messages/s"
            f" ({', '.join(f'{kind} {count:,}' for kind, count in heard.messages.items())}),"
            f" {heard.cpu_s / heard.seconds:.0%} of a core, {heard.lost} connections lost",
        ),
    ]  # fmt: skip


def _run(
    heard: Heard, *, rate: int, seconds: float, kinds: Sequence[str], timeframes: Sequence[str]
) -> Heard:
    with _world(rate):
        _enable(timeframes)
        settings.STREAM_KINDS = tuple(kinds)
        writer, keeper = _TimedWriter([]), ShardKeeper()
        writer.heard = heard
        writer.start()
        keeper.start()
        try:
            uvloop.run(_stream(heard, seconds, writer, keeper))
        finally:
            writer.close()
            keeper.stop()
    return heard


async def _stream(heard: Heard, seconds: float, writer: StreamWriter, keeper: ShardKeeper) -> None:
    stop = asyncio.Event()
    async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client:
        process = _Watched(
            feeds=FEEDS,
            subscribed=lambda: stream_subscriptions(at=clock.now()),
            writer=writer,
            keeper=keeper,
            client=client,
        )
        process.heard = heard
        running = asyncio.create_task(process.run(stop))
        await asyncio.sleep(SETTLING_S)
        for kept in (heard.lag, heard.served, heard.stored):
            kept.clear()
        before = _messages(process)
        began, cpu = time.monotonic(), time.process_time()
        while time.monotonic() - began < seconds and not running.done():
            heard.memory.append((time.monotonic(), _rss_mib()))
            await asyncio.sleep(min(10.0, seconds / 10))
        heard.seconds = time.monotonic() - began
        heard.cpu_s = time.process_time() - cpu
        heard.messages = {
            kind: count - before.get(kind, 0) for kind, count in _messages(process).items()
        }
        books = list(process.stream.books())
        heard.books, heard.withheld = len(books), sum(not book.is_synced for book in books)
        heard.lost = sum(count.lost for count in process.stream.counts())
        stop.set()
        await running


def _messages(process: StreamProcess) -> dict[str, int]:
    found: dict[str, int] = {}
    for topic, messages, _ in process.stream.heard():
        found[topic.kind.value] = found.get(topic.kind.value, 0) + messages
    return found


def _enable(timeframes: Sequence[str]) -> None:
    """Twenty perpetuals at both exchanges, and nothing else."""
    Instrument.objects.update(is_enabled=False)
    for coin in _coins()[:SYMBOLS]:
        instrument, _ = Instrument.objects.update_or_create(
            coin_id=coin["coin"],
            defaults={
                "symbol": coin["symbol"].removesuffix("USDT"),
                "is_enabled": True,
                "timeframes": list(timeframes),
                "source_chain": list(EXCHANGES),
            },
        )
        for exchange in EXCHANGES:
            Listing.objects.get_or_create(
                instrument=instrument,
                exchange=exchange,
                symbol=coin["symbol"],
                defaults={"tick_size": "0.1", "quantity_step": "0.001", "min_notional": "5"},
            )


def _coins() -> list[dict[str, str]]:
    address = settings.PROVIDER_URLS["BINANCE_REST_URL"].removesuffix("/binance")
    with urllib.request.urlopen(f"{address}/control/world") as answer:
        coins: list[dict[str, str]] = json.load(answer)["instruments"]
    return [coin for coin in coins if coin["symbol"]]


@contextlib.contextmanager
def _world(rate: int) -> Iterator[None]:
    """A sandbox at the speed of the wall clock, and the settings and clock of its world."""
    port, anchor = free_port(), clock.wall_now()
    command = [
        *(sys.executable, "-m", "sandbox", "--port", f"{port}", "--seed", "7", "--speed", "1"),
        *("--start", START.isoformat(), "--anchor", anchor.isoformat()),
        *("--stream-rate", f"{rate}", "--more-coins", f"{MORE_COINS}"),
    ]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
    host = f"127.0.0.1:{port}"
    settings.PROVIDER_URLS = {
        **settings.PROVIDER_URLS,
        "BINANCE_REST_URL": f"http://{host}/binance",
        "BINANCE_WS_URL": f"ws://{host}/binance",
        "BYBIT_REST_URL": f"http://{host}/bybit",
        "BYBIT_WS_URL": f"ws://{host}/bybit/v5/public",
    }
    before = clock.current()
    clock.configure(clock.MarketClock(start=START, anchor=anchor, speed=1.0))
    try:
        _wait_for(child)
        yield
    finally:
        clock.configure(before)
        child.terminate()
        child.wait(timeout=10)


def _wait_for(child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            _coins()
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _rss_mib() -> float:
    """Resident memory now; the peak where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB / MIB


def _at(timed: Sequence[tuple[float, float]], share: float) -> float:
    """A percentile in milliseconds."""
    return _of([value for _, value in timed], share) * 1000


def _of(values: Sequence[float], share: float) -> float:
    """A percentile; of nothing, infinity: nothing was shown."""
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))] if ordered else float("inf")
