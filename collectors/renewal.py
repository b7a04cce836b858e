"""How a lease outlives the work it covers: renewed from a thread, whatever the work is doing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import structlog
from django.db import Error as DatabaseFailure
from django.db import connections

log = structlog.get_logger(__name__)


@contextlib.contextmanager
def renewing(renew: Callable[[], object], *, every_s: float, name: str) -> Iterator[None]:
    """Call `renew` every `every_s` seconds (wall) while the block runs, from a thread named `name`.

    A database that is away for a moment must not cost the lease: the failure is logged, and the
    next turn tries again on a new connection. Whether the lease is still ours is for `renew` and
    for what is written at the end to fence.
    """
    over = threading.Event()

    def keep() -> None:
        try:
            while not over.wait(every_s):
                try:
                    renew()
                except DatabaseFailure as error:
                    log.warning("lease_not_renewed", lease=name, problem=str(error))
                    connections.close_all()
        finally:
            connections.close_all()

    thread = threading.Thread(target=keep, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
