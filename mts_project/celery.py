"""The Celery application of every worker and of beat, and the workers' sign of life."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import redis
from celery import Celery
from celery.signals import heartbeat_sent, setup_logging
from django.conf import settings

from collectors import clock

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mts_project.settings")
# Django checks models and pages, as the tests do; a worker would import every page for it.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

WORKER_HEARTBEAT_KEY = "heartbeat:worker:"
HEARTBEAT_EVERY_S = 5.0
HEARTBEAT_TTL_S = 60
REDIS_TIMEOUT_S = 1.0

logger = logging.getLogger(__name__)

app = Celery("mts_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect  # type: ignore[untyped-decorator]
def keep_our_logging(**_: object) -> None:
    """The settings have configured logging; Celery must not."""


class _WorkerHeartbeat:
    """Writes `heartbeat:worker:{node}` every five seconds, for as long as the consumer turns.

    Celery announces its own heartbeats from the consumer's loop, so a worker that is alive for
    the kernel alone falls silent here too.
    """

    def __init__(self) -> None:
        self._written_at = 0.0
        self._client: redis.Redis | None = None

    def __call__(self, sender: Any = None, **_: object) -> None:
        if time.monotonic() - self._written_at < HEARTBEAT_EVERY_S:
            return
        self._written_at = time.monotonic()
        try:
            self._connection().set(
                f"{WORKER_HEARTBEAT_KEY}{sender.eventer.hostname}",
                clock.wall_now().isoformat(),
                ex=HEARTBEAT_TTL_S,
            )
        except redis.RedisError as error:
            logger.warning("no heartbeat: %s", error)

    def _connection(self) -> redis.Redis:
        if self._client is None:
            self._client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=REDIS_TIMEOUT_S)
        return self._client


# Kept by a strong reference: the signal holds its receivers weakly.
write_heartbeat = _WorkerHeartbeat()
heartbeat_sent.connect(write_heartbeat)
