"""When to leave a provider alone: a circuit breaker that all processes share through Redis.

Five consecutive failures of a provider open its circuit; for 60 s of market time (never under one
wall second) nothing is sent; then one single call over all processes is let through, and its end
decides whether the circuit closes or stays open for as long again. Counting and states are
pybreaker's (https://github.com/danielfm/pybreaker); that one call is fenced by a key with a time
to live, so that a process which dies with it holds the others up no longer than that.

Without Redis there is no breaker: calls go on.

    CircuitBroken    nothing may be sent; worth another try after `retry_after` wall seconds
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import pybreaker
import redis
import structlog

from collectors import clock

log = structlog.get_logger(__name__)

FAILURES = 5
OPEN_FOR_S = 60.0  # market time
OPEN_AT_LEAST_S = 1.0  # wall time
LOST_FOR_S = 5.0  # how long a lost Redis is not asked again
RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end"

T = TypeVar("T")


class CircuitBroken(Exception):
    """The circuit is open, or somebody else is trying it."""

    def __init__(self, provider: str, retry_after: float) -> None:
        super().__init__(f"{provider} keeps failing: no call for {retry_after:.1f} s")
        self.retry_after = retry_after


class Breaker:
    """One provider's circuit, seen from one connection. Not to be shared by threads.

    `is_failure` tells what speaks against the provider; any other outcome speaks for it. The one
    call that tries an open circuit must end within `trial_s` wall seconds.
    """

    def __init__(
        self,
        provider: str,
        client: redis.Redis,
        *,
        is_failure: Callable[[BaseException], bool],
        trial_s: float,
    ) -> None:
        self._provider = provider
        self._client: Any = client
        self._is_failure = is_failure
        self._trial_ms = max(int(trial_s * 1000), 1)
        self._fence = f"circuit:{provider}:trial"
        self._storage: _Storage | None = None
        self._circuit: pybreaker.CircuitBreaker | None = None
        self._token = ""
        self._lost_until = 0.0

    @contextlib.contextmanager
    def passage(self) -> Iterator[None]:
        """Surrounds one call and all that belongs to it. Raises CircuitBroken."""
        self._circuit = self._seen()
        try:
            yield
        finally:
            self._circuit = None
            if self._token:
                with contextlib.suppress(redis.RedisError):  # then its time to live ends it
                    self._client.eval(RELEASE, 1, self._fence, self._token)
                self._token = ""

    def judge(self, ask: Callable[[], T]) -> T:
        """What `ask` gives, inside a passage; its outcome is counted. Raises what it raises, and
        CircuitBroken when the circuit has opened since the passage began."""
        circuit = self._circuit
        if circuit is None:
            return ask()
        asked = False

        def once() -> T:
            nonlocal asked
            asked = True
            return ask()

        try:
            self._check_fence()
            return circuit.call(once)
        except pybreaker.CircuitBreakerError:
            raise CircuitBroken(self._provider, self._rest_s()) from None
        except redis.RedisError as error:
            if asked:
                raise
            self._lose(error)
            return ask()

    def _seen(self) -> pybreaker.CircuitBreaker | None:
        """The circuit as it stands, this passage holding the fence where it is not closed; None
        without Redis."""
        if time.monotonic() < self._lost_until:
            return None
        try:
            if self._storage is None:
                self._storage = _Storage(self._client, self._provider)
            # A new object each time: one that notices late that others have closed the circuit
            # would begin to count anew.
            circuit = pybreaker.CircuitBreaker(
                fail_max=FAILURES,
                reset_timeout=open_for_s(),
                exclude=[self._is_excluded],
                listeners=[_Listener()],
                state_storage=self._storage,
                name=self._provider,
                throw_new_error_on_trip=False,
            )
            if circuit.current_state != pybreaker.STATE_CLOSED:
                self._take_fence()
            return circuit
        except redis.RedisError as error:
            self._lose(error)
            return None

    def _take_fence(self) -> None:
        rest_s = self._rest_s()
        if rest_s > 0:
            raise CircuitBroken(self._provider, rest_s)
        token = secrets.token_hex(8)
        if not self._client.set(self._fence, token, nx=True, px=self._trial_ms):
            left_ms = max(self._client.pttl(self._fence), 1)
            raise CircuitBroken(self._provider, left_ms / 1000)
        self._token = token

    def _check_fence(self) -> None:
        """The wait for the budget may have outlasted the fence, and another may try now."""
        if self._token and self._client.get(self._fence) != self._token.encode():
            self._token = ""
            raise CircuitBroken(self._provider, self._trial_ms / 1000)

    def _rest_s(self) -> float:
        """The wall seconds for which the circuit is still open; 0 when it may be tried."""
        storage = self._storage
        opened_at = storage.opened_at if storage else None
        if opened_at is None or storage is None or storage.state != pybreaker.STATE_OPEN:
            return 0.0
        return max(opened_at.timestamp() + open_for_s() - time.time(), 0.0)

    def _is_excluded(self, error: BaseException) -> bool:
        return not self._is_failure(error)

    def _lose(self, error: redis.RedisError) -> None:
        log.warning("breaker_without_redis", provider=self._provider, problem=str(error))
        self._lost_until = time.monotonic() + LOST_FOR_S


def open_for_s() -> float:
    """How long a circuit stays open, in wall seconds at this process's clock speed."""
    return max(OPEN_FOR_S / clock.current().speed, OPEN_AT_LEAST_S)


class _Storage(pybreaker.CircuitRedisStorage):
    """pybreaker's state in Redis, with the opening's time in milliseconds instead of seconds."""

    logger = logging.getLogger(f"{__name__}.redis")
    logger.setLevel(logging.CRITICAL)  # it tells of every command that fails; `Breaker` tells once

    def __init__(self, client: Any, provider: str) -> None:
        super().__init__(pybreaker.STATE_CLOSED, client, namespace=f"circuit:{provider}")

    @property
    def opened_at(self) -> datetime | None:
        """When the circuit was opened (wall time)."""
        stamp: Any = self._redis.get(self._namespace("opened_at_ms"))
        return datetime.fromtimestamp(int(stamp) / 1000, UTC) if stamp else None

    @opened_at.setter
    def opened_at(self, now: datetime) -> None:
        """Failures of calls that were under way do not keep an open circuit open for longer."""
        if self.state != pybreaker.STATE_OPEN:
            with contextlib.suppress(redis.RedisError):
                self._redis.set(self._namespace("opened_at_ms"), int(now.timestamp() * 1000))


class _Listener(pybreaker.CircuitBreakerListener):
    """Says so when a circuit changes."""

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        """Log one line."""
        was = old_state.name if old_state else ""
        log.warning("circuit_changed", provider=cb.name, was=was, now=new_state.name)
