"""Work of a process that looks for itself what is due: one at a time, and one to come after. Pure.

Many hints of one thing (a candle of each instrument, at the same close) would have every thread of
a worker look at the same tables at once, and each would slow the one that works. Who comes while
one works and another waits may go: the one that waits begins its look after that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """The turns of one kind of work; safe between threads."""

    def __init__(self) -> None:
        self._working = threading.Lock()
        self._waiting = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Wait until nobody works, and give True; False at once where somebody waits already."""
        if not self._waiting.acquire(blocking=False):
            yield False
            return
        try:
            self._working.acquire()
        finally:
            self._waiting.release()
        try:
            yield True
        finally:
            self._working.release()
