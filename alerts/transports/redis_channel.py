"""Alerts as messages on the Redis channel `alerts`."""

from __future__ import annotations

import json
from functools import cache

import redis
from django.conf import settings

from alerts.transport import Message, TransportError

CHANNEL = "alerts"
TIMEOUT_S = 5


def deliver(message: Message) -> str:
    """Publish the alert and say how many listened. A repeated attempt has `is_repeat` true.

    Raises TransportError when Redis does not answer.
    """
    body = dict(message.body)
    if message.attempt > 1:
        body["is_repeat"] = True
    try:
        listeners = _client().publish(CHANNEL, json.dumps(body, allow_nan=False))
    except redis.RedisError as error:
        raise TransportError(f"redis: {error}") from error
    return f"{listeners} listening"


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=TIMEOUT_S)
