"""When periodic tasks are due: in market time, unless an entry asks for wall time.

A row of django-celery-beat whose headers say `{"clock": "wall"}` follows wall time (the sweeps of
lost messages do); every other row follows `collectors.clock`. Both are in UTC unless a crontab
names its own zone. However many due times were missed, one message is sent.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import redis
import structlog
from django.conf import settings
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry
from django_celery_beat.utils import NEVER_CHECK_TIMEOUT

from collectors import clock

SHORTEST_SLEEP_S = 0.05
LONGEST_SLEEP_S = 5.0
# How soon an operator's edit in the admin is seen.
REREAD_EVERY_S = 1.0
# Last run times are kept in memory and written in one go: at speed 3600 they change all the time.
SYNC_EVERY_S = 30.0
# A message lives until the next one is due, but never shorter than this: hints do not pile up.
SHORTEST_EXPIRY_S = 10.0
HEARTBEAT_KEY = "heartbeat:beat"
HEARTBEAT_EVERY_S = 5.0
HEARTBEAT_TTL_S = 30
LONG_AGO = timedelta(days=365 * 30)

logger = structlog.get_logger(__name__)


class MarketTimeEntry(ModelEntry):  # type: ignore[misc]
    """One periodic task whose now, last run and due time are on the clock that it names."""

    def __init__(self, model: PeriodicTask, app: Any = None) -> None:
        self.follows_wall = json.loads(model.headers or "{}").get("clock") == "wall"
        is_first = model.last_run_at is None
        super().__init__(model, app=app)
        self.last_run_at: datetime
        self.options["headers"].pop("clock", None)
        # A run "in the future" was noted under another clock: it must not block this one.
        if is_first or self.last_run_at > self._default_now():
            model.last_run_at = self.last_run_at = self._default_now() - LONG_AGO
        zone = getattr(self.schedule, "tz", None) or UTC
        self.schedule.nowfun = _now_in(zone, self._default_now)

    def _default_now(self) -> datetime:
        return clock.wall_now() if self.follows_wall else clock.now()

    def due(self) -> tuple[bool, float]:
        """Whether a message is due, and the wall seconds until the next one."""
        state = self.is_due()
        remaining = float(state.next)
        if not self.follows_wall and remaining < NEVER_CHECK_TIMEOUT:
            remaining /= clock.current().speed
        return state.is_due, remaining

    def save(self) -> None:
        """Note the run, and nothing else: the operator may be editing the row."""
        PeriodicTask.objects.filter(pk=self.model.pk).update(
            last_run_at=self.model.last_run_at, total_run_count=self.model.total_run_count
        )


class MarketTimeScheduler(DatabaseScheduler):  # type: ignore[misc]
    """Celery beat over the database's periodic tasks, on two clocks."""

    Entry = MarketTimeEntry
    max_interval: float
    _schedule: dict[str, MarketTimeEntry] | None
    sync_every = SYNC_EVERY_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._read_at = -math.inf
        self._beat_at = -math.inf
        self._redis = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2)
        super().__init__(*args, **kwargs)
        self.max_interval = min(self.max_interval, LONGEST_SLEEP_S)

    def install_default_entries(self, data: Any) -> None:
        """None: Celery's own entry removes task results, and none are kept."""

    def enabled_models_qs(self) -> Any:
        """All enabled rows. The parent leaves out crontabs that are far away in wall time."""
        return self.Model.objects.enabled()

    def tick(self, *_: Any, **__: Any) -> float:
        """Send every message that is due; the wall seconds to sleep until the next."""
        self._beat()
        soonest = self.max_interval
        entries = self._current_entries()
        for entry in list(entries.values()):
            try:
                is_due, remaining = entry.due()
            except Exception:
                # One row that cannot be computed must not stop the others.
                is_due, remaining = self._is_due_failed(entry)
            if is_due:
                entries[entry.name] = self.reserve(entry)
                entry.options.setdefault("expires", max(remaining, SHORTEST_EXPIRY_S))
                self.apply_entry(entry, producer=self.producer)
            soonest = min(soonest, remaining)
        return max(soonest, SHORTEST_SLEEP_S)

    def _current_entries(self) -> dict[str, MarketTimeEntry]:
        if time.monotonic() - self._read_at >= REREAD_EVERY_S or self._schedule is None:
            self._read_at = time.monotonic()
            entries: dict[str, MarketTimeEntry] = self.schedule
            return entries
        return self._schedule

    def _beat(self) -> None:
        if time.monotonic() - self._beat_at < HEARTBEAT_EVERY_S:
            return
        self._beat_at = time.monotonic()
        try:
            self._redis.set(HEARTBEAT_KEY, clock.wall_now().isoformat(), ex=HEARTBEAT_TTL_S)
        except redis.RedisError as error:
            logger.warning("no heartbeat", error=str(error))


def _now_in(zone: tzinfo, now: Callable[[], datetime]) -> Callable[[], datetime]:
    return lambda: now().astimezone(zone)
