"""How a book that lost its place is made whole again: alone, and no faster than its venue likes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from collectors.backoff import backoff
from collectors.exchange import PermanentError, ProviderError, RateLimited
from collectors.keptbook import KeptBook, Want
from collectors.venues import DepthSnapshot

log = structlog.get_logger(__name__)

# How long a book that waits for messages is left alone between two looks.
LOOK_S = 0.25
# What a snapshot or a new subscription is given to take effect before it is asked for again.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
# A book that is lost again and again is asked for so often, after so many times without pause: its
# calls must not take the budget of all others.
ASKED_EVERY_S, ASKED_AT_ONCE = 6.0, 12
# A venue that refuses for good (an unknown symbol, this country) is asked again so rarely.
HOPELESS_PAUSE_S = 600.0

# Gives a book over REST. Raises ProviderError.
SnapshotSource = Callable[[str, str], Awaitable[DepthSnapshot]]
BookKey = tuple[str, str]  # exchange, symbol


class _Case(NamedTuple):
    """A book that is being made whole."""

    book: KeptBook
    task: asyncio.Task[None]
    has_changed: asyncio.Event


class Resyncs:
    """The books that are being made whole, one task each.

    `is_kept` says whether a book is still the one that is followed, `resubscribe` takes its topic
    anew, `on_change` is told of a book that a snapshot has made whole, or shown to be wrong.
    """

    def __init__(
        self,
        fetch_snapshot: SnapshotSource,
        *,
        is_kept: Callable[[KeptBook], bool],
        resubscribe: Callable[[KeptBook], None],
        on_change: Callable[[KeptBook], None],
    ) -> None:
        self._fetch_snapshot = fetch_snapshot
        self._is_kept = is_kept
        self._resubscribe = resubscribe
        self._on_change = on_change
        self._cases: dict[BookKey, _Case] = {}
        # Until when (monotonic) what was asked for each book pays, at one call in ASKED_EVERY_S.
        self._paid_until: dict[BookKey, float] = {}

    def care_for(self, book: KeptBook) -> None:
        """Make the book whole in the background; where that is under way, look at it again."""
        key = (book.exchange, book.symbol)
        known = self._cases.get(key)
        if known is not None and not known.task.done():
            if known.book is book:
                known.has_changed.set()
                return
            known.task.cancel()  # its connection is gone
        has_changed = asyncio.Event()
        task = asyncio.create_task(self._make_whole(book, has_changed), name=f"resync {key}")
        self._cases[key] = _Case(book, task, has_changed)

    async def close(self) -> None:
        """End all of it."""
        tasks = [case.task for case in self._cases.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make_whole(self, book: KeptBook, has_changed: asyncio.Event) -> None:
        attempts = 0
        while self._is_kept(book) and needs_care(book):
            has_changed.clear()
            want = book.want
            if want is Want.SNAPSHOT:
                pause_s = self._too_soon_s(book)
                if pause_s <= 0:
                    pause_s = await self._ask(book, attempts)
                    attempts += 1
            elif want is Want.RESUBSCRIBE:
                self._resubscribe(book)
                pause_s = backoff(attempts, first=2 * FIRST_PAUSE_S, longest=LONGEST_PAUSE_S)
                attempts += 1
            else:
                pause_s = LOOK_S
            # No longer than the book wants the same.
            until = time.monotonic() + pause_s
            while needs_care(book) and book.want is want and self._is_kept(book):
                left_s = until - time.monotonic()
                if left_s <= 0:
                    break
                # Not `wait_for`: in Python 3.11 it may swallow a cancellation.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left_s, LOOK_S)):
                        await has_changed.wait()
                has_changed.clear()

    def _too_soon_s(self, book: KeptBook) -> float:
        """How long to leave the venue alone about the book; where it need not be, a call is taken
        from what the book may have."""
        key, now = (book.exchange, book.symbol), time.monotonic()
        paid_until = max(self._paid_until.get(key, now), now)
        too_soon_s = paid_until - now - ASKED_EVERY_S * (ASKED_AT_ONCE - 1)
        if too_soon_s <= 0:
            self._paid_until[key] = paid_until + ASKED_EVERY_S
        return too_soon_s

    async def _ask(self, book: KeptBook, attempts: int) -> float:
        """Ask for a snapshot and give it to the book; how long to wait before another one."""
        pause = backoff(attempts, first=FIRST_PAUSE_S, longest=LONGEST_PAUSE_S)
        try:
            snapshot = await self._fetch_snapshot(book.exchange, book.symbol)
        except RateLimited as error:
            pause = max(pause, error.retry_after or 0.0)
            self._note(book, error, pause)
        except PermanentError as error:
            pause = HOPELESS_PAUSE_S
            self._note(book, error, pause)
        except ProviderError as error:
            self._note(book, error, pause)
        except Exception:
            # Nobody else would ask again: the book would stay withheld.
            log.exception("book_snapshot_failed", exchange=book.exchange, symbol=book.symbol)
        else:
            if self._is_kept(book):
                was_synced = book.is_synced
                book.take_snapshot(snapshot)
                if book.is_synced is not was_synced:
                    self._on_change(book)
        return pause

    def _note(self, book: KeptBook, error: ProviderError, pause: float) -> None:
        log.warning(
            "book_snapshot_failed",
            exchange=book.exchange,
            symbol=book.symbol,
            problem=str(error)[:300],
            pause_s=round(pause, 1),
        )


def needs_care(book: KeptBook) -> bool:
    """Whether the book is withheld, or synchronised and no longer known far enough."""
    return not book.is_synced or book.want is Want.SNAPSHOT
