"""The accounts that somebody watches, computed once for all clients of this process.

One task asks the database and Redis for all watched accounts three times a second, and wakes who
follows one of which something has changed, or of which nothing was said for some seconds. What a
client was too slow for is not kept: it takes the newest. While the database does not answer the
last state is told again, and said to be old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from channels.db import database_sync_to_async

from collectors import clock
from realtime.messages import AccountUpdate, encode
from trading.live import live_accounts
from trading.models import Account

INTERVAL_S = 0.3
SIGN_OF_LIFE = timedelta(seconds=3)

log = structlog.get_logger(__name__)


def find_account(text: str) -> Account | None:
    """The account whose id is `text`, None where there is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        return None
    return Account.objects.filter(pk=int(text)).first()


class WatchedAccount:
    """The newest of one account. `version` rises with everything that is worth a message; it is 0
    until the first look."""

    def __init__(self, account_id: int) -> None:
        self.account_id = account_id
        self.version = 0
        self.followers = 0
        self.text = ""
        self._state: dict[str, Any] | None = None
        self._is_current = False
        self._told_at = datetime.min.replace(tzinfo=UTC)
        self._renewed = asyncio.Event()

    async def newer_than(self, version: int) -> None:
        """Wait until there is something that who has seen `version` has not."""
        while self.version <= version:
            await self._renewed.wait()

    def take(self, state: dict[str, Any] | None, *, now: datetime) -> None:
        """Take the account's state at `now` (wall time), None while it cannot be read."""
        is_current = state is not None
        newest = state if state is not None else self._state
        is_same = newest == self._state and is_current == self._is_current
        if newest is None or (is_same and now - self._told_at < SIGN_OF_LIFE):
            return
        self._state, self._is_current, self._told_at = newest, is_current, now
        update = AccountUpdate(account=self.account_id, at=now, is_current=is_current, data=newest)
        self.text = encode(update)
        self.version += 1
        # Whoever waits holds the old event; a client that comes later waits for the next.
        self._renewed.set()
        self._renewed = asyncio.Event()


class AccountWatch:
    """All watched accounts of the process, and the task that keeps them new; of one event loop."""

    def __init__(self) -> None:
        self._accounts: dict[int, WatchedAccount] = {}
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._is_lost = False

    @contextmanager
    def following(self, account_id: int) -> Iterator[WatchedAccount]:
        """The account, kept new while the block runs."""
        if self._task is None:
            self._task = asyncio.create_task(self._read())
        account = self._accounts.setdefault(account_id, WatchedAccount(account_id))
        account.followers += 1
        self._wanted.set()
        try:
            yield account
        finally:
            account.followers -= 1
            if account.followers == 0:
                del self._accounts[account_id]

    async def _read(self) -> None:
        while True:
            if not self._accounts:
                self._wanted.clear()
                await self._wanted.wait()
            await self._look()
            await asyncio.sleep(INTERVAL_S)

    async def _look(self) -> None:
        asked = list(self._accounts)
        states: dict[int, dict[str, Any]] = {}
        try:
            states = await database_sync_to_async(live_accounts)(account_ids=asked)
        except Exception as error:
            # Whatever it is, the clients wait for it to pass.
            if not self._is_lost:
                log.error("accounts_not_readable", problem=str(error))
            self._is_lost = True
        else:
            if self._is_lost:
                log.info("accounts_readable_again")
            self._is_lost = False
        now = clock.wall_now()
        for account_id in asked:
            if account_id in self._accounts:
                self._accounts[account_id].take(states.get(account_id), now=now)


ACCOUNTS = AccountWatch()
