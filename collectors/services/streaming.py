"""How streamed candles reach the table: one writer thread, the best source first."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db import close_old_connections, connection

from collectors import clock, selectors
from collectors.marketdata import Candle
from collectors.models import Instrument
from collectors.services.candles import source_chain, store_market
from collectors.services.search import BAR_RUN_PATIENCE
from collectors.sources import EXCHANGES
from collectors.stream import StreamedCandle

log = structlog.get_logger(__name__)

GATHER_S = 0.03
LOOK_AT_HELD_S = 0.25
RETRY_PAUSE_S = 1.0

SeriesKey = tuple[str, str]  # coin id, timeframe


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


class CandleWriter(threading.Thread):
    """Stores the candles given to `put`, from one thread, in batches.

    The best exchange's candle is stored at once. Another exchange's is held for half the time
    that a bar run waits, and stored only if nothing better has come by then: which venue's
    message was a moment faster must not decide what a strategy sees. `on_stored` is told how
    many candles a batch changed.
    """

    def __init__(
        self,
        subscriptions: list[Subscription],
        *,
        on_stored: Callable[[int], None] = lambda count: None,
    ) -> None:
        super().__init__(name="candle-writer", daemon=True)
        self._subscriptions = {(item.exchange, item.symbol): item for item in subscriptions}
        self._queue: queue.SimpleQueue[StreamedCandle | None] = queue.SimpleQueue()
        self._held: dict[tuple[Instrument, str, datetime], _Held] = {}
        self._newest: dict[SeriesKey, datetime] = {}
        self._on_stored = on_stored
        patience = clock.current().widen(BAR_RUN_PATIENCE) / 2
        self._patience_s = patience.total_seconds() / clock.current().speed

    def put(self, item: StreamedCandle) -> None:
        """Queue a closed candle; never blocks."""
        self._queue.put(item)

    def close(self, timeout_s: float = 1.5) -> None:
        """Store what is queued and end the thread."""
        self._queue.put(None)
        self.join(timeout_s)

    def run(self) -> None:
        """Store until `close`. A failing database is tried again; the gap repair does the rest."""
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            due = self._due(batch)
            for timeframe, candles in due.items():
                try:
                    self._store(timeframe, candles)
                except Exception:
                    log.exception("stream_candles_not_stored", timeframe=timeframe)
                    close_old_connections()
                    time.sleep(RETRY_PAUSE_S)
        connection.close()

    def _gather(self) -> tuple[list[StreamedCandle], bool]:
        """What has been queued, waiting a little for more of the same moment."""
        batch: list[StreamedCandle] = []
        timeout = LOOK_AT_HELD_S
        while True:
            try:
                item = self._queue.get(timeout=timeout)
            except queue.Empty:
                return batch, True
            if item is None:
                return batch, False
            batch.append(item)
            timeout = GATHER_S

    def _due(self, batch: list[StreamedCandle]) -> dict[str, dict[Instrument, list[Candle]]]:
        """The candles to store now, by timeframe and instrument."""
        due: dict[str, dict[Instrument, list[Candle]]] = {}
        for item in batch:
            subscription = self._subscriptions.get((item.exchange, item.symbol))
            if subscription is None:
                continue
            instrument, at = subscription.instrument, item.candle.open_time
            if subscription.rank == 0:
                self._held.pop((instrument, item.timeframe, at), None)
                due.setdefault(item.timeframe, {}).setdefault(instrument, []).append(item.candle)
                key = (instrument.coin_id, item.timeframe)
                self._newest[key] = max(at, self._newest.get(key, at))
            elif not self._is_there(instrument, item.timeframe, at):
                held = _Held(item.candle, time.monotonic() + self._patience_s)
                self._held.setdefault((instrument, item.timeframe, at), held)
        now = time.monotonic()
        for held_key in [key for key, held in self._held.items() if held.until <= now]:
            instrument, timeframe, _ = held_key
            candle = self._held.pop(held_key).candle
            due.setdefault(timeframe, {}).setdefault(instrument, []).append(candle)
        return due

    def _is_there(self, instrument: Instrument, timeframe: str, at: datetime) -> bool:
        newest = self._newest.get((instrument.coin_id, timeframe))
        return newest is not None and newest >= at

    def _store(self, timeframe: str, candles: dict[Instrument, list[Candle]]) -> None:
        result = store_market(timeframe=timeframe, candles=candles, expect_new=True)
        self._on_stored(result.inserted + result.replaced)
