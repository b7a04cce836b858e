"""What may be asked of each provider, counted once for all processes.

A call is reserved before it is sent: it takes its weight from the window of the provider's minute
(`collectors.call_window`, in Redis), and its row in the database is written while nothing has been
sent yet. So the database remembers every call that a provider may have seen, and a Redis that was
lost, emptied or set back is filled from it again before it gives any room. Limits are per minute
and month of market time, because a provider's own clock is the market's.

    BudgetError
    |-- BudgetExhausted      no room now; it may go at `may_go_at`, after `retry_after` wall seconds
    `-- RecordsUnavailable   the database cannot be written, so that nothing may be sent
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import uuid4

import redis
import structlog

from collectors import clock
from collectors.call_window import (
    CallWindow,
    Remembered,
    Room,
    memory_start,
    month_of,
)
from collectors.marketdata import floor_time

log = structlog.get_logger(__name__)

LONGEST_WAIT_S = 61.0
LOADING_PAUSE_S = 0.02


@dataclass(frozen=True)
class Limit:
    """Request weight per minute; calls per month, None where the provider sets no such limit."""

    per_minute: int
    per_month: int | None = None


# Binance: request weight per IP (exchangeInfo of fapi and of spot, REQUEST_WEIGHT). Bybit: 600
# requests in 5 s per IP, kept far below. FRED: 120 requests a minute.
EXCHANGE_LIMITS: Mapping[str, Limit] = {
    "binance": Limit(2400),
    "binance_spot": Limit(6000),
    "bybit": Limit(600),
    "fred": Limit(120),
}
# https://www.coingecko.com/en/api/pricing: without a key what is served varies, and a 429 says when
# it is too much.
COINGECKO_LIMITS: Mapping[str, Limit] = {
    "none": Limit(30),
    "demo": Limit(30, 10_000),
    "pro": Limit(500, 500_000),
}
# The public host, asked without a key when Pro refuses ours, counts for itself.
FREE_DOOR = "coingecko_free"


def provider_limits(*, coingecko_plan: str) -> dict[str, Limit]:
    """Every provider's limit. Raises KeyError for an unknown plan."""
    limits = {**EXCHANGE_LIMITS, "coingecko": COINGECKO_LIMITS[coingecko_plan]}
    return limits | ({FREE_DOOR: COINGECKO_LIMITS["none"]} if coingecko_plan == "pro" else {})


class BudgetError(Exception):
    """A call may not be sent."""


class BudgetExhausted(BudgetError):
    """The provider may not be called before `may_go_at` (market time), `retry_after` wall seconds
    from now."""

    def __init__(
        self, provider: str, *, reason: str, retry_after: float, may_go_at: datetime
    ) -> None:
        why = {"month": "this month's calls are used up", "blocked": "it told us to stay away"}
        super().__init__(
            f"{provider}: {why.get(reason, 'this minute is used up')}; no call before "
            f"{may_go_at.isoformat(timespec='milliseconds')} (in {retry_after:.1f} s)"
        )
        self.retry_after = retry_after
        self.may_go_at = may_go_at


class RecordsUnavailable(BudgetError):
    """The calls' table cannot be read or written."""


class CallRecords(Protocol):
    """The table of calls by provider, endpoint and minute (market time).

    Every method commits before it returns, and raises RecordsUnavailable.
    """

    def add(self, provider: str, endpoint: str, minute: datetime, weight: int) -> None:
        """Count one call more."""

    def remove(self, provider: str, endpoint: str, minute: datetime, weight: int) -> None:
        """Take back what `add` counted."""

    def settle(
        self, provider: str, endpoint: str, minute: datetime, *, failed: bool, response_ms: float
    ) -> None:
        """Add how a counted call went."""

    def block(self, provider: str, seconds: float) -> None:
        """Remember that the provider is to be left alone for `seconds` (wall)."""

    def remembered(
        self, *, since: datetime, month: datetime, until: datetime
    ) -> Mapping[str, Remembered]:
        """Per provider the weights of all minutes from `since` on, and the sum from `month` on,
        both to `until` (inclusive), and the block that holds now."""


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """The right to send one call, reserved at `at` (market time) and counted under `minute`."""

    provider: str
    endpoint: str
    weight: int
    member: str
    marker: str
    at: datetime
    minute: datetime


class CallBudget:
    """The shared budget. One object may serve all threads of a process.

    Without `records`, Redis is the only memory, and what it loses is forgotten.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        limits: Mapping[str, Limit] | None = None,
        records: CallRecords | None = None,
        sleep: Callable[[float], None] = time.sleep,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self._client = client
        self._window = CallWindow(client)
        self._limits = provider_limits(coingecko_plan="none") if limits is None else limits
        self._records = records
        self._sleep = sleep
        self._longest_wait_s = longest_wait_s

    @property
    def client(self) -> redis.Redis:
        """The Redis that the counters live in, for what else all processes share."""
        return self._client

    def reserve(self, provider: str, endpoint: str, weight: int = 1) -> Reservation:
        """Reserve a call of `weight` and record it, waiting for room up to a minute of wall time.

        Raises BudgetExhausted when the room comes later than that, RecordsUnavailable,
        redis.RedisError, and ValueError for a weight that no minute has room for. After an error
        nothing is reserved; the call must not be sent.
        """
        limit = self._limits.get(provider)
        if weight < 1 or (limit is not None and weight > limit.per_minute):
            raise ValueError(f"{provider}: a call of weight {weight} never fits")
        deadline = time.monotonic() + self._longest_wait_s
        recorded: datetime | None = None
        try:
            while True:
                member = f"{uuid4().hex}:{weight}"
                room = self._wait_for_room(provider, member, weight, deadline)
                minute = floor_time(room.at, "1m")
                try:
                    if recorded != minute:
                        self._record(provider, endpoint, minute, weight)
                        recorded, former = minute, recorded
                        self._unrecord(provider, endpoint, former, weight)
                    # What was lost while the row was written is not in what was loaded since.
                    if self._window.confirm(provider, member, room.marker):
                        break
                except BaseException:
                    with contextlib.suppress(redis.RedisError):
                        self._window.release(provider, member, room.marker)
                    raise
                self._window.release(provider, member, room.marker)
        except BaseException:
            with contextlib.suppress(RecordsUnavailable):
                self._unrecord(provider, endpoint, recorded, weight)
            raise
        return Reservation(
            provider=provider,
            endpoint=endpoint,
            weight=weight,
            member=member,
            marker=room.marker,
            at=room.at,
            minute=minute,
        )

    def settle(self, reservation: Reservation, *, failed: bool, response_ms: float) -> None:
        """The call is over: its answer has come, or it was given up. Raises nothing: an answer
        whose time is not recorded is still an answer, and the call itself is recorded already."""
        provider = reservation.provider
        try:
            self._window.settle(provider, reservation.member, is_certain=not failed)
        except redis.RedisError as error:
            log.warning("call_not_settled", provider=provider, problem=str(error))
        if self._records is None:
            return
        try:
            self._records.settle(
                provider,
                reservation.endpoint,
                reservation.minute,
                failed=failed,
                response_ms=response_ms,
            )
        except RecordsUnavailable as error:
            log.warning("call_not_settled", provider=provider, problem=str(error))

    def cancel(self, reservation: Reservation) -> None:
        """The call was not sent after all. Raises nothing: what stays counted only costs room."""
        with contextlib.suppress(redis.RedisError):
            self._window.release(reservation.provider, reservation.member, reservation.marker)
        with contextlib.suppress(RecordsUnavailable):
            self._unrecord(
                reservation.provider, reservation.endpoint, reservation.minute, reservation.weight
            )

    def reconcile(self, reservation: Reservation, used: int) -> None:
        """Believe the provider, answering this call, when it has counted more than we have in this
        minute: somebody else calls from this address. Raises redis.RedisError."""
        others = self._window.reconcile(reservation.provider, used=used, reserved_at=reservation.at)
        if others:
            log.info("calls_of_others", provider=reservation.provider, weight=others)

    def block(self, provider: str, seconds: float) -> None:
        """Let no process call the provider for `seconds` of wall time. Raises redis.RedisError."""
        if self._records is not None:
            try:
                self._records.block(provider, seconds)
            except RecordsUnavailable as error:
                log.warning("block_not_recorded", provider=provider, problem=str(error))
        self._window.block(provider, seconds)

    def used(self, provider: str) -> int:
        """The weight that is taken of the provider's minute now. Raises redis.RedisError."""
        return self._window.used(provider)

    def _wait_for_room(self, provider: str, member: str, weight: int, deadline: float) -> Room:
        limit = self._limits.get(provider)
        while True:
            nonce = uuid4().hex
            patience = max(deadline - time.monotonic(), 0.0)
            room = self._window.try_room(
                provider,
                member,
                weight=weight,
                minute_limit=limit.per_minute if limit else None,
                month_limit=limit.per_month if limit else None,
                patience_s=patience,
                nonce=nonce,
            )
            if room.verdict == "granted":
                return room
            if room.verdict == "load":
                self._load(nonce, provider)
            elif room.verdict == "wait":
                self._sleep(room.wait_s)
            elif room.verdict == "refused" or patience <= 0:
                raise BudgetExhausted(
                    provider,
                    reason=room.reason,
                    retry_after=max(room.wait_s, LOADING_PAUSE_S),
                    may_go_at=room.at,
                )
            else:  # somebody else loads, or the clocks do not agree on the month yet
                self._sleep(LOADING_PAUSE_S * random.uniform(0.5, 1.5))

    def _load(self, nonce: str, provider: str) -> None:
        """Give Redis what the database remembers."""
        at = clock.now()
        remembered: dict[str, Remembered] = dict.fromkeys([*self._limits, provider], Remembered())
        try:
            if self._records is not None:
                month, _ = month_of(at)
                remembered |= self._records.remembered(
                    since=memory_start(at), month=month, until=at + timedelta(minutes=1)
                )
        except BaseException:
            with contextlib.suppress(redis.RedisError):
                self._window.stand_down(nonce)
            raise
        for provider, of in remembered.items():
            if of.blocked_s > 0:  # before there is any room
                self._window.block(provider, of.blocked_s)
        if self._window.load(nonce, remembered, at=at):
            weight = sum(entry for of in remembered.values() for _, entry in of.minutes)
            log.info("call_budget_loaded", weight_of_last_minutes=weight)

    def _record(self, provider: str, endpoint: str, minute: datetime, weight: int) -> None:
        if self._records is not None:
            self._records.add(provider, endpoint, minute, weight)

    def _unrecord(self, provider: str, endpoint: str, minute: datetime | None, weight: int) -> None:
        if self._records is not None and minute is not None:
            self._records.remove(provider, endpoint, minute, weight)
