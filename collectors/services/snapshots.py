"""Books over REST, for the event loop: one thread and one client for each venue, within the call
budget as everything else."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from django.db import close_old_connections, connections

from collectors.exchange import RequestRefused
from collectors.keptbook import KeptBook
from collectors.services.providers import candle_source
from collectors.venues import DepthSnapshot, DepthSource


class Snapshots:
    """Asks the venues one book at a time; to be closed at the end."""

    def __init__(self) -> None:
        self._threads: dict[str, ThreadPoolExecutor] = {}

    async def fetch(self, exchange: str, symbol: str) -> DepthSnapshot:
        """The book of a symbol now, as deep as `KeptBook.snapshot_levels`. Raises ProviderError;
        waits while the budget has no room."""
        if exchange not in self._threads:
            name = f"snapshots-{exchange}"
            self._threads[exchange] = ThreadPoolExecutor(1, thread_name_prefix=name)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads[exchange], _ask, exchange, symbol)

    def close(self) -> None:
        """Ask for nothing more, and let go of the database."""
        for threads in self._threads.values():
            threads.submit(connections.close_all)
            threads.shutdown(wait=False, cancel_futures=False)
        self._threads.clear()


def _ask(exchange: str, symbol: str) -> DepthSnapshot:
    close_old_connections()  # one that broke must not fail every later call
    source = candle_source(exchange)
    if not isinstance(source, DepthSource):
        raise RequestRefused(f"{exchange} gives no book over REST")
    return source.fetch_depth(symbol, KeptBook.snapshot_levels)
