"""How often each provider has been called in a minute of market time, shared by all processes.

Every process counts in Redis; `drain` takes the counts out for the table that keeps them. Limits
are per minute of market time, because a provider's own clock is the market's.

BudgetExhausted: no room now; ask again after `retry_after` wall seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import redis

from collectors import clock
from collectors.marketdata import floor_time

# Binance: weight per IP (fapi exchangeInfo, REQUEST_WEIGHT). Bybit: 600 requests in 5 s per IP,
# kept far below. FRED: 120 requests a minute. CoinGecko: the free plan's 30 calls a minute.
MINUTE_LIMITS: Mapping[str, int] = {"binance": 2400, "bybit": 600, "fred": 120, "coingecko": 30}
LONGEST_WAIT_S = 61.0
COUNTER_TTL_S = 180
PENDING_KEY = "provider_calls:pending"


class BudgetExhausted(Exception):
    """The provider may not be called before `retry_after` wall seconds have passed."""

    def __init__(self, provider: str, retry_after: float) -> None:
        super().__init__(f"{provider}: no call before {retry_after:.1f} s have passed")
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True)
class CallCount:
    """The calls to one endpoint in one minute of market time."""

    provider: str
    endpoint: str
    minute: datetime
    calls: int = 0
    weight: int = 0
    errors: int = 0
    response_ms_total: float = 0.0


class CallBudget:
    """The shared counters. One object may serve all threads of a process."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        limits: Mapping[str, int] = MINUTE_LIMITS,
        sleep: Callable[[float], None] = time.sleep,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self._client: Any = client
        self._limits = limits
        self._sleep = sleep
        self._longest_wait_s = longest_wait_s

    @property
    def client(self) -> redis.Redis:
        """The Redis that the counters live in, for what else all processes share."""
        return self._client  # type: ignore[no-any-return]

    def reserve(self, provider: str, weight: int) -> None:
        """Take `weight` from this market minute, waiting for a later one when it is used up.

        Raises BudgetExhausted when the wait would be longer than a minute of wall time or the
        provider has told us to stay away (`block`).
        """
        deadline = time.monotonic() + self._longest_wait_s
        while True:
            wait = self._take(provider, weight)
            if wait <= 0:
                return
            if time.monotonic() + wait > deadline:
                raise BudgetExhausted(provider, wait)
            self._sleep(wait)

    def _take(self, provider: str, weight: int) -> float:
        """0 when the weight was taken, else the wall seconds until it is worth another try."""
        market = clock.now()
        minute = floor_time(market, "1m")
        key = _used_key(provider, minute)
        pipe = self._client.pipeline(transaction=True)
        pipe.pttl(_block_key(provider))
        pipe.incrby(key, weight)
        pipe.expire(key, COUNTER_TTL_S)
        blocked_ms, used, _ = pipe.execute()
        limit = self._limits.get(provider)
        if blocked_ms > 0:
            self._client.decrby(key, weight)
            return float(blocked_ms) / 1000
        if limit is not None and used > limit and used > weight:
            self._client.decrby(key, weight)
            rest = minute + timedelta(minutes=1) - market
            return max(rest.total_seconds() / clock.current().speed, 0.001)
        return 0.0

    def reconcile(self, provider: str, used: int) -> None:
        """Believe the provider when it has counted more than we have this minute."""
        key = _used_key(provider, floor_time(clock.now(), "1m"))
        ours = int(self._client.get(key) or 0)
        if used > ours:
            self._client.incrby(key, used - ours)
            self._client.expire(key, COUNTER_TTL_S)

    def block(self, provider: str, seconds: float) -> None:
        """Let no process call the provider for `seconds` of wall time."""
        self._client.set(_block_key(provider), "1", px=max(int(seconds * 1000), 1))

    def record(
        self, provider: str, endpoint: str, *, weight: int, failed: bool, response_ms: float
    ) -> None:
        """Count one call that was made."""
        count = CallCount(
            provider=provider,
            endpoint=endpoint,
            minute=floor_time(clock.now(), "1m"),
            calls=1,
            weight=weight,
            errors=int(failed),
            response_ms_total=response_ms,
        )
        self.add([count])

    def add(self, counts: Iterable[CallCount]) -> None:
        """Add counts to those that wait for `drain`; also puts back what could not be stored."""
        pipe = self._client.pipeline(transaction=True)
        for count in counts:
            field = f"{count.provider}|{count.endpoint}|{count.minute.isoformat()}"
            pipe.hincrby(PENDING_KEY, f"{field}|calls", count.calls)
            pipe.hincrby(PENDING_KEY, f"{field}|weight", count.weight)
            pipe.hincrby(PENDING_KEY, f"{field}|errors", count.errors)
            pipe.hincrbyfloat(PENDING_KEY, f"{field}|ms", count.response_ms_total)
        pipe.execute()

    def drain(self) -> list[CallCount]:
        """Take all waiting counts out, each once even when two processes drain together."""
        pipe = self._client.pipeline(transaction=True)
        pipe.hgetall(PENDING_KEY)
        pipe.delete(PENDING_KEY)
        return _parse(pipe.execute()[0])

    def waiting(self) -> list[CallCount]:
        """The counts that nobody has drained yet."""
        return _parse(self._client.hgetall(PENDING_KEY))


def _used_key(provider: str, minute: datetime) -> str:
    return f"provider_used:{provider}:{minute:%Y%m%d%H%M}"


def _block_key(provider: str) -> str:
    return f"provider_block:{provider}"


def _parse(fields: Mapping[bytes, bytes]) -> list[CallCount]:
    counts: dict[tuple[str, str, str], CallCount] = {}
    for raw_field, raw_value in fields.items():
        provider, endpoint, minute, measure = raw_field.decode().split("|")
        key = (provider, endpoint, minute)
        count = counts.get(key) or CallCount(
            provider=provider, endpoint=endpoint, minute=datetime.fromisoformat(minute)
        )
        if measure == "ms":
            count = replace(count, response_ms_total=float(raw_value))
        elif measure == "calls":
            count = replace(count, calls=int(raw_value))
        elif measure == "weight":
            count = replace(count, weight=int(raw_value))
        else:
            count = replace(count, errors=int(raw_value))
        counts[key] = count
    return list(counts.values())
