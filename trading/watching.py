"""The watch in the stream process: from the quote that reaches an order to the worker's task.

The stream process is given `watch_quotes` by the settings (QUOTE_WATCHERS) and calls what it gives
with every quote. That only looks at a table in memory (`trading.watch`); two threads do the rest.
One keeps the table as the rows are: it reads them every second, and at once when somebody says on
`ORDERS_CHANNEL` that orders have changed. The other sends what was reached to the workers.

Nothing here has to be kept: the rows say what works, whoever matches looks at them under the
account's lock, and the sweep and the closed bar find what a lost message, a killed process or an
outage of Redis has left.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import redis
import structlog
from django.db import Error as DatabaseFailure
from django.db import close_old_connections, connections

from collectors.marketdata import Quote
from collectors.selectors import redis_client
from trading import tasks
from trading.watch import Told, WatchTable
from trading.watched import watched_orders

log = structlog.get_logger(__name__)

ORDERS_CHANNEL = "trading:orders"
REREAD_S = 1.0
# Many orders change together (the legs of a fill, the accounts that follow one signal).
GATHER_S = 0.01
# In a storm of fills the rows are not read more often; what comes meanwhile is looked at again.
LEAST_S = 0.1
# How many quotes of one symbol a message carries: of more, the first have set off what they could.
MOST_QUOTES = 50
# Without a worker, messages would pile up; what they told of, the sweep finds.
EXPIRES_S = 60


@contextmanager
def watch_quotes() -> Iterator[Callable[[Quote], None]]:
    """What is to be called with every quote, while it is needed."""
    watch = QuoteWatch()
    watch.start()
    try:
        yield watch.take
    finally:
        watch.close()


def say_orders_changed() -> None:
    """Let every watch read the rows; raises nothing that Redis does."""
    try:
        redis_client().publish(ORDERS_CHANNEL, b"")
    except redis.RedisError as problem:
        log.info("order_change_not_said", problem=str(problem)[:200])


class QuoteWatch:
    """Watches all working orders from `start` to `close`; `take` may be called in between and
    never blocks."""

    def __init__(self) -> None:
        self._table = WatchTable()
        self._told: queue.SimpleQueue[list[Told] | None] = queue.SimpleQueue()
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=work.__name__.strip("_"), daemon=True)
            for work in (self._keep_table, self._tell_workers)
        ]

    def start(self) -> None:
        """Begin to read rows and to tell workers."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End both threads; what was reached and not told yet is left to the sweep."""
        self._is_over.set()
        self._told.put(None)
        for thread in self._threads:
            thread.join(timeout=2 * REREAD_S)

    def take(self, quote: Quote) -> None:
        """Look at a quote."""
        told = self._table.look(quote)
        if told is not None:
            self._told.put(told)

    def _keep_table(self) -> None:
        """Offer the rows to the table, over and over."""
        while not self._is_over.is_set():
            try:
                client: Any = redis_client()
                with client.pubsub(ignore_subscribe_messages=True) as changes:
                    changes.subscribe(ORDERS_CHANNEL)
                    while not self._is_over.is_set():
                        began = time.monotonic()
                        self._read_rows()
                        _wait_for_changes(changes, until=began + LEAST_S)
            except redis.RedisError as problem:
                log.warning("order_changes_not_heard", problem=str(problem)[:200])
                self._read_rows()
                self._is_over.wait(REREAD_S)
        connections.close_all()

    def _read_rows(self) -> None:
        try:
            self._table.offer(watched_orders())
        except DatabaseFailure as problem:
            log.warning("working_orders_not_read", problem=str(problem)[:200])
            close_old_connections()
        except Exception:
            # Whatever is wrong with a row: the table stays as it was, and is read again.
            log.exception("working_orders_not_read")

    def _tell_workers(self) -> None:
        """Send one message per symbol for all that came while the one before was sent."""
        while (told := self._told.get()) is not None:
            gathered = list(told)
            while not self._told.empty():
                more = self._told.get()
                if more is None:
                    return
                gathered += more
            for (exchange, symbol), quotes in _by_symbol(gathered).items():
                try:
                    tasks.work_quotes.apply_async(
                        (exchange, symbol, quotes[-MOST_QUOTES:]), expires=EXPIRES_S
                    )
                except Exception as problem:
                    # Whatever the broker raises: the table tells of it again in a second.
                    log.warning("workers_not_told", symbol=symbol, problem=str(problem)[:200])


def _wait_for_changes(changes: Any, *, until: float) -> None:
    """Return when orders have changed, or after a while, but not before `until` (of
    `time.monotonic`); messages that came together count as one."""
    if changes.get_message(timeout=REREAD_S) is None:
        return
    time.sleep(max(GATHER_S, until - time.monotonic()))
    while changes.get_message(timeout=0.0) is not None:
        pass


def _by_symbol(told: Iterable[Told]) -> dict[tuple[str, str], list[Any]]:
    """The quotes by symbol, oldest first, as a message carries them."""
    found: dict[tuple[str, str], list[Any]] = {}
    for item in told:
        quotes = found.setdefault((item.exchange, item.symbol), [])
        quotes += [msgspec.to_builtins(quote) for quote in item.quotes]
    return found
