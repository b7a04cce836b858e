"""How what the streams say reaches the tables: one writer thread, in batches."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import structlog
from django.db import InterfaceError, OperationalError, close_old_connections, connection

from collectors.backoff import backoff
from collectors.bookhours import Downtime, HourPart
from collectors.feeds import StreamedCandle
from collectors.marketdata import Candle
from collectors.models import Instrument
from collectors.services.books import store_book_hours, store_downtimes
from collectors.services.candle_choice import CandleChoice, Due
from collectors.services.candles import store_market
from collectors.services.funding_rows import store_seen_settlements
from collectors.services.streaming import Subscription
from collectors.settlements import SeenSettlement

log = structlog.get_logger(__name__)

GATHER_S, LONGEST_GATHER_S = 0.03, 0.25
LOOK_AT_HELD_S = 0.25
FIRST_RETRY_S = 0.5
# Statistics of hours are added up in one transaction for all that came meanwhile.
ADD_UP_S = 30.0
# Items that wait for the writer, and rows that wait for the database; each takes a few hundred
# bytes.
MOST_WAITING = 5000

# What stores a batch of (instrument, value), by the type of the value.
Row = SeenSettlement | Downtime
STORES: dict[type, Callable[[Sequence[tuple[Instrument, Any]]], object]] = {
    SeenSettlement: store_seen_settlements,
    Downtime: store_downtimes,
}


class _Rejected(NamedTuple):
    """A candle that cannot be true, and why not."""

    item: StreamedCandle
    reason: str


class StreamWriter(threading.Thread):
    """Stores what is given to its `put` methods, which may be called from any thread and never
    block. Candles go first, those that `CandleChoice` finds due; `on_stored` is told how many
    candles a batch changed.

    While the database is away, rows wait and are tried again. What is more than can wait, is
    refused for another reason, or still waits at the end is `dropped`: counted, logged, and, if it
    is a candle or a settlement, left to the gap repair, which finds all that the tables lack.
    """

    def __init__(
        self,
        subscriptions: Sequence[Subscription],
        *,
        on_stored: Callable[[int], None] = lambda count: None,
    ) -> None:
        super().__init__(name="stream-writer", daemon=True)
        self.dropped = 0
        self.choice = CandleChoice(subscriptions)
        self._instruments: dict[tuple[str, str], Instrument] = {}
        self.follow(subscriptions)
        self._queue: queue.SimpleQueue[StreamedCandle | _Rejected | Row | HourPart | None]
        self._queue = queue.SimpleQueue()
        self._candles: Due = {}
        self._rows: dict[type, list[tuple[Instrument, Row]]] = {}
        self._on_stored = on_stored
        self._hours: dict[tuple[str, str, datetime], tuple[Instrument, HourPart]] = {}
        self._add_up_at = 0.0

    def follow(self, subscriptions: Sequence[Subscription]) -> None:
        """Take the candles of these subscriptions from now on. Of symbols that were followed
        before, what else is said is still taken: how a downtime ended, say."""
        self.choice.follow(subscriptions)
        known = {(item.exchange, item.symbol): item.instrument for item in subscriptions}
        self._instruments = {**self._instruments, **known}

    def put(self, item: StreamedCandle) -> None:
        """Queue a closed candle."""
        self._enqueue(item)

    def reject(self, item: StreamedCandle, reason: str) -> None:
        """Queue the finding that a candle cannot be true."""
        self._enqueue(_Rejected(item, reason))

    def put_settlement(self, settlement: SeenSettlement) -> None:
        """Queue a settlement that a `SettlementTracker` has found."""
        self._enqueue(settlement)

    def put_downtime(self, downtime: Downtime) -> None:
        """Queue that a book is withheld (`ended_at` None), or is not any more: the same beginning
        with its end. Whatever earlier downtime of the symbol is still open, as its process died,
        ends where this one begins: name the one that every followed book begins with."""
        self._enqueue(downtime)

    def put_statistics(self, parts: Iterable[HourPart]) -> None:
        """Queue what `BookHours.take` gives; twice a minute it is added to what the rows of these
        hours have."""
        for part in parts:
            self._enqueue(part)

    def close(self, timeout_s: float = 1.5) -> None:
        """Store what is queued and end the thread."""
        self._queue.put(None)
        self.join(timeout_s)

    def run(self) -> None:
        """Store until `close`."""
        failures, try_at = 0, 0.0
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            self._take(batch)
            if is_open and time.monotonic() < try_at:
                continue
            if self._store_all(is_last=not is_open):
                failures, try_at = 0, 0.0
            else:
                try_at = time.monotonic() + backoff(failures, first=FIRST_RETRY_S)
                failures += 1
            self.choice.record_findings()
        left = self._waiting() + len(self._hours) + self.choice.early
        self._drop(left, "the stream ends")
        connection.close()

    def _enqueue(self, item: StreamedCandle | _Rejected | Row | HourPart) -> None:
        if self._queue.qsize() < MOST_WAITING:
            self._queue.put(item)
        else:
            self._drop(1, "too many wait for the writer")

    def _gather(self) -> tuple[list[StreamedCandle | Row | HourPart], bool]:
        """What has been queued, waiting a little for more of the same moment."""
        batch: list[StreamedCandle | Row | HourPart] = []
        timeout = LOOK_AT_HELD_S
        until = time.monotonic() + timeout + LONGEST_GATHER_S
        while time.monotonic() < until:
            try:
                item = self._queue.get(timeout=timeout)
            except queue.Empty:
                return batch, True
            if item is None:
                return batch, False
            if isinstance(item, _Rejected):
                self.choice.reject(item.item, item.reason)
            else:
                batch.append(item)
            timeout = GATHER_S
        return batch, True

    def _take(self, batch: Sequence[StreamedCandle | Row | HourPart]) -> None:
        """Let what is due wait for the database."""
        due = self.choice.due([item for item in batch if isinstance(item, StreamedCandle)])
        rows = [item for item in batch if not isinstance(item, StreamedCandle | HourPart)]
        self._add_up([item for item in batch if isinstance(item, HourPart)])
        more = _count(due) + len(rows)
        if self._waiting() + more > MOST_WAITING:
            self._drop(more, "too many wait for the database")
            return
        for timeframe, candles in due.items():
            for instrument, new in candles.items():
                waiting = self._candles.setdefault(timeframe, {})
                waiting.setdefault(instrument, []).extend(new)
        for row in rows:
            known = self._instruments.get((row.exchange, row.symbol))
            if known is not None:
                self._rows.setdefault(type(row), []).append((known, row))

    def _add_up(self, parts: Sequence[HourPart]) -> None:
        """Let statistics wait, by their hours, so that a long outage leaves room for candles."""
        for part in parts:
            known = self._instruments.get((part.exchange, part.symbol))
            waiting = self._hours.get(name := (part.exchange, part.symbol, part.hour))
            if waiting is not None:
                waiting[1].include(part)
            elif known is not None and len(self._hours) < MOST_WAITING:
                self._hours[name] = (known, part)
            elif known is not None:
                self._drop(1, "too many hours wait for the database")

    def _store_all(self, *, is_last: bool) -> bool:
        """Store what waits and take it out; False when the database is away."""
        try:
            for timeframe in list(self._candles):
                candles = self._candles[timeframe]
                count = _count({timeframe: candles})
                self._try(partial(self._store, timeframe, candles), count)
                del self._candles[timeframe]
            for kind in list(self._rows):
                rows = self._rows[kind]
                self._try(partial(STORES[kind], rows), len(rows))
                del self._rows[kind]
            if self._hours and (is_last or time.monotonic() >= self._add_up_at):
                hours = list(self._hours.values())
                self._try(partial(store_book_hours, hours), len(hours))
                self._hours.clear()
                self._add_up_at = time.monotonic() + ADD_UP_S
        except (OperationalError, InterfaceError) as error:
            log.warning("stream_rows_wait", count=self._waiting(), problem=str(error))
            close_old_connections()
            return False
        return True

    def _try(self, store: Callable[[], object], count: int) -> None:
        """Raises what says that the database is away."""
        try:
            store()
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            # Another try would meet the same: the others must not wait behind it.
            log.exception("stream_rows_not_stored")
            close_old_connections()
            self._drop(count, "not storable")

    def _store(self, timeframe: str, candles: dict[Instrument, list[Candle]]) -> None:
        result = store_market(timeframe=timeframe, candles=candles, expect_new=True)
        self._on_stored(result.inserted + result.replaced)

    def _waiting(self) -> int:
        return _count(self._candles) + sum(map(len, self._rows.values()))

    def _drop(self, count: int, reason: str) -> None:
        if count:
            self.dropped += count
            log.error("stream_rows_dropped", count=count, total=self.dropped, reason=reason)


def _count(due: Due) -> int:
    return sum(len(batch) for candles in due.values() for batch in candles.values())
