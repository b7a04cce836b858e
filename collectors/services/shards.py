"""Which shards of the instruments this process may stream, so that two never stream the same.

A lease lasts 15 s of database time. Its owner counts them from before the statement was sent, on a
clock of its own that nobody sets and that runs on while the process, or the machine, is asleep, and
stops three seconds early. So it has stopped before anybody else can begin, whether the database is
away, the process was paused, or a renewal came too late. What that cannot cover is a database whose
clock is set forward by more than these three seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import NamedTuple

import structlog
from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import connections

from collectors.owners import Owner
from collectors.services.shard_leases import (
    ShardView,
    claim_shard,
    end_presence,
    release_shards,
    renew_presence,
    renew_shards,
    shard_views,
    spread_shards,
)
from collectors.sharding import fair_share, shard_of, surplus

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=15)
# Of the lease: how often it is renewed, and how long before its end its owner stops.
RENEWED_AFTER, MARGIN = 4 / 15, 3 / 15
LOOK_EVERY_S = 1.0

# CLOCK_MONOTONIC stands still while the machine sleeps, as leases do not.
elapsed_s: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)


class Claim(NamedTuple):
    """A shard of ours: its attempt, and until when (`elapsed_s`) it may be streamed."""

    attempt: int
    until_s: float


class ShardKeeper:
    """Keeps this process's fair share of the shards, from a thread of its own.

    Every second it looks who else is alive. What is free it claims up to its share; what it holds
    beyond its share it gives up: the shard is not `held` any more, and its lease is released once
    `confirm` says that it is not followed any more, else it expires. The shards of a process that
    was killed on this machine are free at once, those of one elsewhere when their lease expires.

    `on_change` is called from the thread after `held` has changed. A lease that ends because the
    database is away changes `held` without a call, so look at it every second as well.
    """

    def __init__(
        self,
        *,
        shards: int | None = None,
        lease: timedelta = LEASE,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.shards: int = settings.STREAM_SHARDS if shards is None else shards
        self.owner = Owner.of_this_process()
        self._lease = lease
        self._on_change = on_change
        # Replaced as a whole by the thread, read by everybody.
        self._claims: dict[int, Claim] = {}
        self._lock = threading.Lock()
        self._leaving: dict[int, int] = {}  # given up, perhaps still followed: number to attempt
        self._left: dict[int, int] = {}  # not followed any more, to be released
        self._renew_at_s = 0.0
        self._told: frozenset[int] = frozenset()
        self._is_failing = self._is_waiting = False
        self._over, self._wake, self._looked = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._keep, name="shard-keeper", daemon=True)

    def start(self) -> None:
        """Begin to claim; returns at once."""
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the database has been asked once; False when that takes longer."""
        return self._looked.wait(timeout_s)

    def held(self) -> frozenset[int]:
        """The shards that this process may stream now."""
        now = elapsed_s()
        return frozenset(n for n, claim in self._claims.items() if now < claim.until_s)

    def holds(self, coin_id: str) -> bool:
        """Whether this process may publish and store what concerns the instrument, now. Takes less
        than a microsecond, so ask before each publication and each write."""
        claim = self._claims.get(shard_of(coin_id, self.shards))
        return claim is not None and elapsed_s() < claim.until_s

    def confirm(self, followed: Collection[int]) -> None:
        """Say which shards this process streams at present: of those given up, the others are
        released now."""
        with self._lock:
            for number in [number for number in self._leaving if number not in followed]:
                self._left[number] = self._leaving.pop(number)
            is_due = bool(self._left)
        if is_due:
            self._wake.set()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Hold nothing any more and release it all; to be called after the streams have ended."""
        self._over.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._claims = {}

    def _keep(self) -> None:
        try:
            while not self._over.is_set():
                if self._asks(self._look):
                    self._looked.set()
                self._tell()
                self._wake.wait(LOOK_EVERY_S)
                self._wake.clear()
            self._asks(self._release_all)
        finally:
            connections.close_all()

    def _asks(self, ask: Callable[[], None]) -> bool:
        """Whether the database could be asked; a new connection is tried next time."""
        try:
            ask()
        except DatabaseFailure as error:
            if not self._is_failing:
                log.warning("shards_not_kept", held=sorted(self.held()), problem=str(error))
            self._is_failing = True
        except Exception:
            # Without this thread the leases would only expire, and nobody would know why.
            log.exception("shards_not_kept", held=sorted(self.held()))
            self._is_failing = True
        else:
            if self._is_failing:
                log.info("shards_kept_again", held=sorted(self.held()))
            self._is_failing = False
            return True
        connections.close_all()
        return False

    def _look(self) -> None:
        processes = renew_presence(me=self.owner, lease=self._lease)
        if elapsed_s() >= self._renew_at_s:
            self._renew()
        views = shard_views(me=self.owner)
        if {(view.number, view.spread) for view in views} != {
            (number, self.shards) for number in range(self.shards)
        }:
            self._spread()
            views = shard_views(me=self.owner)
        share = fair_share(shards=self.shards, processes=processes)
        self._give_up(share)
        self._release(views)
        if all(view.spread == self.shards for view in views):
            self._claim(views, share)

    def _renew(self) -> None:
        asked_s = elapsed_s()
        attempts = {number: claim.attempt for number, claim in self._claims.items()}
        kept = renew_shards(attempts=attempts, me=self.owner, lease=self._lease)
        if lost := set(attempts) - kept:
            log.warning("shards_lost", shards=sorted(lost))
        self._claims = {n: Claim(attempts[n], self._end(asked_s)) for n in kept}
        self._renew_at_s = asked_s + self._lease.total_seconds() * RENEWED_AFTER

    def _end(self, asked_s: float) -> float:
        """Until when a lease may be used that was asked for at `asked_s`."""
        return asked_s + self._lease.total_seconds() * (1 - MARGIN)

    def _spread(self) -> None:
        is_spread = spread_shards(spread=self.shards, me=self.owner)
        if not is_spread and not self._is_waiting:
            log.warning("shards_spread_otherwise", wanted=self.shards)
        self._is_waiting = not is_spread

    def _give_up(self, share: int) -> None:
        numbers = surplus(self._claims, share=share)
        if not numbers:
            return
        given_up = {number: self._claims[number].attempt for number in numbers}
        self._claims = {n: claim for n, claim in self._claims.items() if n not in numbers}
        # After the claims: whoever confirms what it reads from now on has seen that they are gone.
        with self._lock:
            self._leaving.update(given_up)

    def _release(self, views: Sequence[ShardView]) -> None:
        """Release what was left, and forget what has expired meanwhile."""
        with self._lock:
            left = dict(self._left)
        release_shards(attempts=left, me=self.owner)
        leased = {view.number: view.attempt for view in views if view.is_live}
        with self._lock:
            for number in left:
                self._left.pop(number, None)
            for number, attempt in list(self._leaving.items()):
                if leased.get(number) != attempt:
                    del self._leaving[number]

    def _claim(self, views: Sequence[ShardView], share: int) -> None:
        me = str(self.owner)
        with self._lock:
            busy = {*self._claims, *self._leaving, *self._left}
        for view in views:
            # One that is ours without our knowing was claimed when the answer was lost.
            if view.number in busy or (view.is_live and view.owner != me):
                continue
            if len(self._claims) >= share or self._over.is_set():
                return
            asked_s = elapsed_s()
            attempt = claim_shard(seen=view, me=self.owner, lease=self._lease)
            if attempt is not None:
                self._claims = {**self._claims, view.number: Claim(attempt, self._end(asked_s))}

    def _release_all(self) -> None:
        attempts = {number: claim.attempt for number, claim in self._claims.items()}
        self._claims = {}
        with self._lock:
            attempts |= self._leaving | self._left
        release_shards(attempts=attempts, me=self.owner)
        end_presence(me=self.owner)

    def _tell(self) -> None:
        held = self.held()
        if held == self._told:
            return
        self._told = held
        log.info("shards_held", shards=sorted(held), spread=self.shards)
        try:
            self._on_change()
        except Exception:
            log.exception("shards_change_not_heard")
