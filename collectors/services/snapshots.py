"""Books over REST, for the event loop: one thread and one client for each venue, within the call
budget as everything else."""

from __future__ import annotations

import asyncio
import queue
import threading
from concurrent.futures import Future

from django.db import close_old_connections, connections

from collectors.exchange import RequestRefused
from collectors.keptbook import KeptBook
from collectors.services.providers import candle_source
from collectors.venues import DepthSnapshot, DepthSource

Answer = Future[DepthSnapshot]


class Snapshots:
    """Asks the venues one book at a time; to be closed at the end."""

    def __init__(self) -> None:
        self._askers: dict[str, _Asker] = {}

    async def fetch(self, exchange: str, symbol: str) -> DepthSnapshot:
        """The book of a symbol now, as deep as `KeptBook.snapshot_levels`. Raises ProviderError;
        waits while the budget has no room."""
        if exchange not in self._askers:
            self._askers[exchange] = _Asker(exchange)
            self._askers[exchange].start()
        return await asyncio.wrap_future(self._askers[exchange].ask(symbol))

    def close(self) -> None:
        """Ask for nothing more, and let go of the database. Waits for nothing: a call may wait a
        minute for room in the budget, and the process need not."""
        for asker in self._askers.values():
            asker.close()
        self._askers.clear()


class _Asker(threading.Thread):
    """Asks one venue. Ends with the process, whatever it waits for."""

    def __init__(self, exchange: str) -> None:
        super().__init__(name=f"snapshots-{exchange}", daemon=True)
        self._exchange = exchange
        self._queue: queue.SimpleQueue[tuple[str, Answer] | None] = queue.SimpleQueue()

    def ask(self, symbol: str) -> Answer:
        answer: Answer = Future()
        self._queue.put((symbol, answer))
        return answer

    def close(self) -> None:
        self._queue.put(None)

    def run(self) -> None:
        try:
            while (asked := self._queue.get()) is not None:
                symbol, answer = asked
                if not answer.set_running_or_notify_cancel():
                    continue  # nobody waits for it any more
                try:
                    answer.set_result(_ask(self._exchange, symbol))
                except BaseException as error:
                    answer.set_exception(error)
        finally:
            connections.close_all()


def _ask(exchange: str, symbol: str) -> DepthSnapshot:
    close_old_connections()  # one that broke must not fail every later call
    source = candle_source(exchange)
    if not isinstance(source, DepthSource):
        raise RequestRefused(f"{exchange} gives no book over REST")
    return source.fetch_depth(symbol, KeptBook.snapshot_levels)
