"""One lasting connection: made again when it is lost, and replaced before the venue ends it.

The successor of a connection, its heir, subscribes to the same topics while the old one still
serves. The heir takes over when each of its books goes on where the old one's stands, so that the
change loses no message and withholds no book.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

import structlog

from collectors.backoff import backoff
from collectors.feeds import Feed, Kind, Topic
from collectors.keptbook import KeptBook
from collectors.stream_session import Heard, Pace, Session, SessionLost

log = structlog.get_logger(__name__)


class Line:
    """The topics of one group that share a connection. `may_overlap` is asked before a second
    connection is opened: a venue limits how many there are."""

    def __init__(
        self,
        feed: Feed,
        url: str,
        *,
        group: str,
        name: str,
        heard: Heard,
        pace: Pace,
        may_overlap: Callable[[Line], bool] = lambda line: True,
    ) -> None:
        self.feed = feed
        self.group = group
        self.name = name
        self.topics: tuple[Topic, ...] = ()
        self.current: Session | None = None
        self.heir: Session | None = None
        self.connections = 0
        self.lost = 0
        self.replaced = 0
        self._url = url
        self._heard = heard
        self._pace = pace
        self._may_overlap = may_overlap

    def follow(self, topics: Sequence[Topic]) -> None:
        """Subscribe to these topics from now on, without a new connection."""
        self.topics = tuple(topics)
        for session in (self.current, self.heir):
            if session is not None:
                session.follow(topics)
        if self.current is not None:
            self._show_books(self.current)

    def books(self) -> list[KeptBook]:
        """The books that this line keeps; none while it is not connected."""
        return list(self.current.reader.books.values()) if self.current else []

    async def keep(self) -> None:
        """Stay connected until cancelled."""
        failures = 0
        task: asyncio.Task[None] | None = None
        try:
            while True:
                session = self._open()
                self.current = session
                task = asyncio.create_task(session.run(), name=session.name)
                self._show_books(session)
                while True:
                    reason = await self._until_lost_or_old(session, task)
                    if reason:
                        break
                    session, task = await self._replace(session, task)
                lasted_s = time.monotonic() - session.opened_at
                failures = 0 if session.messages and lasted_s >= self._pace.steady_s else failures
                self.current = None
                self._end(session, reason)
                pause = backoff(
                    failures,
                    first=self._pace.first_backoff_s,
                    longest=self._pace.longest_backoff_s,
                )
                failures += 1
                log.warning(
                    "stream_reconnects", line=self.name, reason=reason, pause_s=round(pause, 2)
                )
                await asyncio.sleep(pause)
        finally:
            last, self.current = self.current, None
            if last is not None:
                self._end(last, "the stream ends")
            await _close(task)

    def _open(self, *, is_heir: bool = False) -> Session:
        self.connections += 1
        session = Session(
            self.feed,
            self._url,
            name=self.name,
            heard=self._heard,
            pace=self._pace,
            is_heir=is_heir,
        )
        session.follow(self.topics)
        return session

    def _show_books(self, session: Session) -> None:
        for book in session.reader.books.values():
            self._heard.update(session, book)

    def _end(self, session: Session, reason: str) -> None:
        self.lost += 1
        for book in session.reader.books.values():
            book.withhold(f"connection lost: {reason}")
            self._heard.update(session, book)

    async def _until_lost_or_old(self, session: Session, task: asyncio.Task[None]) -> str:
        """Why it was lost; "" when it has become old."""
        age_s = self._pace.longest_age_s * random.uniform(0.9, 1)
        while True:
            left_s = session.opened_at + age_s - time.monotonic()
            await asyncio.wait({task}, timeout=max(left_s, 0.0))
            if task.done():
                return _reason(task)
            if self._may_overlap(self):
                return ""
            age_s += self._pace.join_s  # it is another's turn: the venue gives an hour

    async def _replace(
        self, old: Session, old_task: asyncio.Task[None]
    ) -> tuple[Session, asyncio.Task[None]]:
        """The session that goes on: the heir, or the old one when no heir could be had."""
        heir = self.heir = self._open(is_heir=True)
        joined = asyncio.Event()
        waiting = set(heir.topics)

        def hear(topic: Topic) -> None:
            book = heir.reader.books.get(topic.symbol) if topic.kind is Kind.BOOK else None
            if book is not None and not book.is_synced:
                elder = old.reader.books.get(topic.symbol)
                if elder is None or not elder.is_synced or not book.adopt(elder):
                    return
            waiting.discard(topic.name)
            if not waiting:
                joined.set()

        heard = old.messages
        heir.overlaps = old.overlaps = True
        heir.watch_messages(hear)
        heir_task = asyncio.create_task(heir.run(), name=heir.name)
        join_task = asyncio.create_task(joined.wait())
        try:
            await asyncio.wait(
                {old_task, heir_task, join_task},
                timeout=self._pace.join_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            self.heir = None
            # One that is open and silent, while the old one is not, is no better than none.
            is_deaf = not heir.has_heard and old.messages > heard and not old_task.done()
            if heir_task.done() or not heir.is_open or is_deaf:
                old.overlaps = False
                reason = "the second hears nothing" if is_deaf else "no second connection"
                log.warning("stream_not_replaced", line=self.name, reason=reason)
                await _close(heir_task)
                old.opened_at += self._pace.join_s * 3  # try again in a while
                return old, old_task
            self._hand_over(old, heir)
            await _close(old_task)
        except asyncio.CancelledError:
            await _close(heir_task)
            raise
        finally:
            join_task.cancel()
            self.heir = None
        return heir, heir_task

    def _hand_over(self, old: Session, heir: Session) -> None:
        """What the heir has not joined yet, as a thin market's book, is made whole as after a
        reconnection."""
        heir.watch_messages(None)
        old.mute()
        heir.is_heir = heir.overlaps = False
        self.current = heir
        self.replaced += 1
        log.info("stream_replaced", line=self.name, age_s=round(time.monotonic() - old.opened_at))
        self._show_books(heir)


def _reason(task: asyncio.Task[None]) -> str:
    error = None if task.cancelled() else task.exception()
    if error is None or isinstance(error, SessionLost):
        return str(error or "cancelled")
    log.error("stream_session_failed", exc_info=error)
    return f"{type(error).__name__}: {error}"


async def _close(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
