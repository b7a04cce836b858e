"""The parts of an installation and how each is: healthy, degraded or unhealthy.

Every part is a dictionary with a `status` and what led to it. Ages of processes are wall time,
ages of data market time, their bounds widened by five wall seconds of it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Count, Max, Q, Sum

from collectors import clock
from collectors.marketdata import duration
from collectors.models import Instrument, Ohlcv, ProviderCallMinute
from collectors.selectors import shard_holding
from mts_project.celery import WORKER_HEARTBEAT_KEY
from risk.models import TradingState
from risk.selectors import read_desk, state_in_force
from signals.models import Signal
from trading.models import Account

HEALTHY = "healthy"
DEGRADED = "degraded"
UNHEALTHY = "unhealthy"
RANKS = (HEALTHY, DEGRADED, UNHEALTHY)

HEARTBEAT_BOUND = timedelta(seconds=30)
LOW_DISK_BYTES = 2**30
FULL_DISK_BYTES = 100 * 2**20
FAILING_SHARE = 0.5
REDIS_TIMEOUT_S = 2
RECENT_S = 2

Component = dict[str, Any]


def all_components() -> dict[str, Component]:
    """Every part, by the names that the health page shows."""
    parts = stores()
    if parts["redis"]["status"] == HEALTHY:
        parts["workers"] = _workers()
        parts["beat"] = _process("heartbeat:beat")
        parts["stream"] = _stream()
    else:
        for name in ("workers", "beat", "stream"):
            parts[name] = {"status": DEGRADED, "detail": "unknown: Redis does not answer"}
    parts["disk"] = _disk()
    readers: dict[str, Callable[[], Component]] = {
        "providers": _providers,
        "trading": _trading,
        "data_freshness": _data_freshness,
    }
    for name, read in readers.items():
        try:
            parts[name] = read()
        except DatabaseError:
            parts[name] = {"status": DEGRADED, "detail": "unknown: the database does not answer"}
    return parts


def recent_components() -> dict[str, Component]:
    """Every part as it was at most two seconds ago: whoever asks often costs nothing more."""
    return _components_in(int(time.monotonic() // RECENT_S))


@lru_cache(maxsize=1)
def _components_in(_window: int) -> dict[str, Component]:
    return all_components()


def stores() -> dict[str, Component]:
    """The database and Redis, without which nothing works."""
    return {
        "database": _timed(_ask_database, DatabaseError),
        "redis": _timed(lambda: _client().ping(), redis.RedisError),
    }


def overall_status(components: dict[str, Component]) -> str:
    """The worst status of all parts."""
    worst: str = max((part["status"] for part in components.values()), key=RANKS.index)
    return worst


def signals_last_hour() -> int:
    """Signals stored in the last hour of wall time."""
    since = clock.wall_now() - timedelta(hours=1)
    return Signal.objects.filter(created_at__gte=since).count()


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _timed(ask: Callable[[], object], failure: type[Exception]) -> Component:
    started = time.perf_counter()
    try:
        ask()
    except failure as error:
        return {"status": UNHEALTHY, "detail": str(error).strip()[:200]}
    return {"status": HEALTHY, "latency_ms": round((time.perf_counter() - started) * 1000, 2)}


def _workers() -> Component:
    """Alive workers by node; without any, tasks wait."""
    ages = {}
    for key in _client().scan_iter(f"{WORKER_HEARTBEAT_KEY}*"):
        age = _heartbeat_age(key)
        if age is not None:
            ages[key.removeprefix(WORKER_HEARTBEAT_KEY)] = age
    alive = [age for age in ages.values() if age <= HEARTBEAT_BOUND]
    return {
        "status": HEALTHY if alive else DEGRADED,
        "alive": len(alive),
        "age_s": {node: round(age.total_seconds(), 1) for node, age in sorted(ages.items())},
    }


def _process(key: str) -> Component:
    age = _heartbeat_age(key)
    return {
        "status": HEALTHY if age is not None and age <= HEARTBEAT_BOUND else DEGRADED,
        "age_s": None if age is None else round(age.total_seconds(), 1),
    }


def _stream() -> Component:
    """The newest heartbeat of a stream process, and whether the instruments are all streamed."""
    component = _process("heartbeat:stream")
    try:
        shards, held, processes = shard_holding()
    except DatabaseError:
        return component
    component["shards"] = {"held": held, "of": shards, "processes": processes}
    if held < shards:
        component["status"] = DEGRADED
    return component


def _heartbeat_age(key: str) -> timedelta | None:
    """How long ago (wall time) a process wrote its ISO 8601 heartbeat; None without one."""
    written: Any = _client().get(key)
    try:
        return None if written is None else clock.wall_now() - datetime.fromisoformat(written)
    except (ValueError, TypeError):
        return None


def _disk() -> Component:
    try:
        free = shutil.disk_usage(settings.DATA_DIR).free
    except OSError as error:
        return {"status": UNHEALTHY, "detail": str(error)}
    status = HEALTHY
    if free < LOW_DISK_BYTES:
        status = UNHEALTHY if free < FULL_DISK_BYTES else DEGRADED
    return {"status": status, "free_mb": free // 2**20}


def _providers() -> Component:
    """Calls and errors of the last market hour; degraded when half of a provider's calls fail."""
    since = clock.now() - clock.current().widen(timedelta(hours=1))
    rows = (
        ProviderCallMinute.objects.filter(minute__gte=since)
        .values("provider")
        .annotate(call_count=Sum("calls"), error_count=Sum("errors"))
    )
    providers = {
        row["provider"]: {"calls": row["call_count"], "errors": row["error_count"]} for row in rows
    }
    is_failing = any(
        each["errors"] > FAILING_SHARE * max(each["calls"], 1) for each in providers.values()
    )
    return {"status": DEGRADED if is_failing else HEALTHY, "providers": providers}


def _trading() -> Component:
    """What rules every active account, and the desk; anything but active is worth a look."""
    desk = read_desk()
    accounts = {
        account.name: {
            "trading_state": state_in_force(profile=account.profile, desk=desk).state,
            "own_state": account.profile.trading_state,
            "reason": account.profile.state_reason,
            "processed_bar": account.processed_bar,
        }
        for account in Account.objects.filter(is_active=True).select_related("profile")
    }
    is_open = desk.trading_state == TradingState.ACTIVE and not desk.is_stale
    is_open &= all(account["trading_state"] == TradingState.ACTIVE for account in accounts.values())
    return {
        "status": HEALTHY if is_open else DEGRADED,
        "desk": {
            "trading_state": desk.trading_state,
            "reason": desk.state_reason,
            "is_stale": desk.is_stale,
            "staleness": desk.staleness,
        },
        "accounts": accounts,
    }


def _data_freshness() -> Component:
    """Per collected instrument the age of its newest candle since that candle's close."""
    now = clock.now()
    newest = {
        (row["instrument"], row["timeframe"]): row
        for row in Ohlcv.objects.filter(Q(timeframe="15m") | Q(timeframe="1h"))
        .order_by()
        .values("instrument", "timeframe")
        .annotate(last_open=Max("open_time"), candles=Count("id"))
    }
    instruments = {}
    for instrument in Instrument.objects.filter(is_enabled=True):
        timeframe = instrument.timeframes[0]
        row = newest.get((instrument.pk, timeframe))
        instruments[instrument.coin_id] = _freshness(row, timeframe, now)
    fresh = sum(each["status"] == "fresh" for each in instruments.values())
    status = HEALTHY if fresh == len(instruments) else DEGRADED
    return {
        "status": status,
        "overall_status": "fresh" if status == HEALTHY else "stale",
        "fresh_count": fresh,
        "instruments": instruments,
    }


def _freshness(row: Any, timeframe: str, now: datetime) -> Component:
    if row is None:
        return {"status": "missing", "age_hours": None, "candles": 0}
    step = duration(timeframe)
    age = now - (row["last_open"] + step)
    # One bar may still be forming, and the next is fetched a minute after its close.
    bound = clock.current().widen(step + timedelta(minutes=5))
    return {
        "status": "fresh" if age <= bound else "stale",
        "age_hours": round(age / timedelta(hours=1), 3),
        "candles": row["candles"],
    }


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=REDIS_TIMEOUT_S, decode_responses=True
    )
