"""How streamed candles reach the table: one writer thread, the best source first."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog
from django.db import InterfaceError, OperationalError, close_old_connections, connection

from collectors import clock, selectors
from collectors.marketdata import Candle, candle_key, duration
from collectors.models import Instrument
from collectors.quality import Finding, compare_sources, reject_candle
from collectors.services.candles import source_chain, store_market
from collectors.services.findings import record_findings
from collectors.services.search import BAR_RUN_PATIENCE
from collectors.sources import EXCHANGES
from collectors.stream import StreamedCandle, backoff

log = structlog.get_logger(__name__)

GATHER_S = 0.03
LOOK_AT_HELD_S = 0.25
FIRST_RETRY_S = 0.5
# Candles that wait for a writer or for the database; a candle takes a few hundred bytes.
MOST_WAITING = 5000

SeriesKey = tuple[str, str]  # coin id, timeframe
Due = dict[str, dict[Instrument, list[Candle]]]  # by timeframe


@dataclass(frozen=True)
class Subscription:
    """A symbol of an exchange that is listened to, and its rank in the instrument's chain: 0 is
    the best of the exchanges that list it."""

    instrument: Instrument
    exchange: str
    symbol: str
    rank: int


def stream_subscriptions(*, at: datetime) -> list[Subscription]:
    """The symbols of all collected instruments at the exchanges that list them at `at`."""
    subscriptions: list[Subscription] = []
    for instrument in selectors.enabled_instruments():
        exchanges = [name for name in source_chain(instrument) if name in EXCHANGES]
        listings = [
            (name, selectors.listing_for(instrument=instrument, exchange=name, at=at))
            for name in exchanges
        ]
        listed = [(name, listing.symbol) for name, listing in listings if listing is not None]
        subscriptions += [
            Subscription(instrument, name, symbol, rank)
            for rank, (name, symbol) in enumerate(listed)
        ]
    return subscriptions


@dataclass
class _Held:
    """A worse source's candle that waits for the best source's."""

    candle: Candle
    until: float


class _Rejected(NamedTuple):
    """A candle that cannot be true, and why not."""

    item: StreamedCandle
    reason: str


class CandleWriter(threading.Thread):
    """Stores the candles given to `put`, from one thread, in batches.

    The best exchange's candle is stored at once. Another exchange's is held for half the time
    that a bar run waits, and stored only if nothing better has come by then: which venue's
    message was a moment faster must not decide what a strategy sees. `on_stored` is told how
    many candles a batch changed.

    While the database is away, candles wait and are tried again. What is more than can wait, is
    refused for another reason, or still waits at the end is `dropped`: counted, logged, and left
    to the gap repair, which finds every bar that the table lacks.

    A candle that an exchange closes while our clock, which may run behind, has still some seconds
    to go, waits for our clock.

    Of two exchanges' candles of one bar the worse is not stored, but compared: where they close
    far apart, that is recorded, and so is a candle given to `reject`, which cannot be true.
    """

    def __init__(
        self,
        subscriptions: list[Subscription],
        *,
        on_stored: Callable[[int], None] = lambda count: None,
    ) -> None:
        super().__init__(name="candle-writer", daemon=True)
        self.dropped = 0
        self.follow(subscriptions)
        self._queue: queue.SimpleQueue[StreamedCandle | _Rejected | None] = queue.SimpleQueue()
        self._findings: dict[tuple[Instrument, str], list[Finding]] = {}
        self._held: dict[tuple[Instrument, str, datetime], _Held] = {}
        self._early: list[StreamedCandle] = []
        self._newest: dict[SeriesKey, Candle] = {}
        self._on_stored = on_stored
        patience = clock.current().widen(BAR_RUN_PATIENCE) / 2
        self._patience_s = patience.total_seconds() / clock.current().speed

    def follow(self, subscriptions: list[Subscription]) -> None:
        """Take the candles of these subscriptions from now on."""
        self._subscriptions = {(item.exchange, item.symbol): item for item in subscriptions}

    def put(self, item: StreamedCandle) -> None:
        """Queue a closed candle; never blocks."""
        if self._queue.qsize() < MOST_WAITING:
            self._queue.put(item)
        else:
            self._drop(1, "too many wait for the writer")

    def reject(self, item: StreamedCandle, reason: str) -> None:
        """Queue the finding that a candle cannot be true; never blocks."""
        if self._queue.qsize() < MOST_WAITING:
            self._queue.put(_Rejected(item, reason))

    def close(self, timeout_s: float = 1.5) -> None:
        """Store what is queued and end the thread."""
        self._queue.put(None)
        self.join(timeout_s)

    def run(self) -> None:
        """Store until `close`."""
        waiting: Due = {}
        failures, try_at = 0, 0.0
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            self._add(waiting, self._due(batch))
            if is_open and time.monotonic() < try_at:
                continue
            if self._store_all(waiting):
                failures, try_at = 0, 0.0
            else:
                try_at = time.monotonic() + backoff(failures, first=FIRST_RETRY_S)
                failures += 1
            self._record_findings()
        self._drop(_count(waiting) + len(self._early), "the stream ends")
        connection.close()

    def _add(self, waiting: Due, due: Due) -> None:
        if _count(waiting) + _count(due) > MOST_WAITING:
            self._drop(_count(due), "too many wait for the database")
            return
        for timeframe, candles in due.items():
            for instrument, batch in candles.items():
                waiting.setdefault(timeframe, {}).setdefault(instrument, []).extend(batch)

    def _store_all(self, waiting: Due) -> bool:
        """Store what waits and take it out; False when the database is away."""
        for timeframe in list(waiting):
            try:
                self._store(timeframe, waiting[timeframe])
            except (OperationalError, InterfaceError) as error:
                log.warning("stream_candles_wait", count=_count(waiting), problem=str(error))
                close_old_connections()
                return False
            except Exception:
                # Another try would meet the same: the others must not wait behind it.
                log.exception("stream_candles_not_stored", timeframe=timeframe)
                close_old_connections()
                self._drop(_count({timeframe: waiting[timeframe]}), "not storable")
            del waiting[timeframe]
        return True

    def _drop(self, count: int, reason: str) -> None:
        if count:
            self.dropped += count
            log.error("stream_candles_dropped", count=count, total=self.dropped, reason=reason)

    def _gather(self) -> tuple[list[StreamedCandle], bool]:
        """The candles that have been queued, waiting a little for more of the same moment."""
        batch: list[StreamedCandle] = []
        timeout = LOOK_AT_HELD_S
        while True:
            try:
                item = self._queue.get(timeout=timeout)
            except queue.Empty:
                return batch, True
            if item is None:
                return batch, False
            if isinstance(item, _Rejected):
                self._note(item.item, reject_candle(item.item.candle, item.reason))
            else:
                batch.append(item)
            timeout = GATHER_S

    def _due(self, batch: list[StreamedCandle]) -> Due:
        """The candles to store now, by timeframe and instrument."""
        due: Due = {}
        for item in self._ripe(batch):
            subscription = self._subscriptions.get((item.exchange, item.symbol))
            if subscription is None:
                continue
            instrument, at = subscription.instrument, item.candle.open_time
            key = (instrument.coin_id, item.timeframe)
            newest = self._newest.get(key)
            if subscription.rank == 0:
                held = self._held.pop((instrument, item.timeframe, at), None)
                if held is not None:
                    self._note(item, compare_sources(item.candle, held.candle))
                due.setdefault(item.timeframe, {}).setdefault(instrument, []).append(item.candle)
                if newest is None or at >= newest.open_time:
                    self._newest[key] = item.candle
            elif newest is None or newest.open_time < at:
                held = _Held(item.candle, time.monotonic() + self._patience_s)
                self._held.setdefault((instrument, item.timeframe, at), held)
            elif newest.open_time == at:
                self._note(item, compare_sources(newest, item.candle))
        now = time.monotonic()
        for held_key in [key for key, held in self._held.items() if held.until <= now]:
            instrument, timeframe, _ = held_key
            candle = self._held.pop(held_key).candle
            due.setdefault(timeframe, {}).setdefault(instrument, []).append(candle)
        return due

    def _ripe(self, batch: list[StreamedCandle]) -> list[StreamedCandle]:
        """The candles, and those that waited, whose bars are over by our clock or far from it."""
        now = clock.now()
        most = clock.current().widen(BAR_RUN_PATIENCE)
        ripe: list[StreamedCandle] = []
        early: list[StreamedCandle] = []
        for item in [*self._early, *batch]:
            ahead = item.candle.open_time + duration(item.timeframe) - now
            (early if timedelta(0) < ahead <= most else ripe).append(item)
        self._early = early
        return ripe

    def _note(self, item: StreamedCandle, finding: Finding | None) -> None:
        subscription = self._subscriptions.get((item.exchange, item.symbol))
        if finding is not None and subscription is not None:
            key = (subscription.instrument, item.timeframe)
            self._findings.setdefault(key, []).append(finding)

    def _record_findings(self) -> None:
        for (instrument, timeframe), findings in self._findings.items():
            subject = candle_key(instrument.coin_id, timeframe)
            record_findings(subject=subject, findings=findings, instrument=instrument)
        self._findings.clear()

    def _store(self, timeframe: str, candles: dict[Instrument, list[Candle]]) -> None:
        result = store_market(timeframe=timeframe, candles=candles, expect_new=True)
        self._on_stored(result.inserted + result.replaced)


def _count(due: Due) -> int:
    return sum(len(batch) for candles in due.values() for batch in candles.values())
