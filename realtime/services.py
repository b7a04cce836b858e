"""The sequencer: gives every durable row its place in the stream, once, after it committed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import DatabaseError, connection, transaction
from django.db.models import Max
from redis.exceptions import RedisError

from collectors import clock
from realtime.models import Event
from realtime.topics import TOPICS, Topic

BATCH = 500
KEPT_FOR = timedelta(days=30)
# Any constant will do, as long as nobody else in the database takes the same one.
SEQUENCER_LOCK = 0x4D545345

logger = structlog.get_logger(__name__)


def publish_due_events() -> int:
    """Number every row that has no event yet; returns how many there were.

    Safe to run at any time and anywhere at once: one sequencer works, the others wait for their
    turn and find what is left. Subscribers are nudged after each commit. A row that cannot be told
    holds up its own topic, and no other, until it can: numbers given past it would tell
    subscribers that they missed nothing.
    """
    return sum(_publish_topic(topic) for topic in TOPICS.values())


def forget_old_events(*, kept_for: timedelta = KEPT_FOR) -> int:
    """Drop the data of events numbered longer ago than `kept_for` (wall time); returns how many.

    A cursor before them is refused as expired from then on.
    """
    horizon = clock.wall_now() - kept_for
    old = Event.objects.filter(numbered_at__lt=horizon, data__isnull=False)
    return old.update(data=None)


def events_group(topic: str) -> str:
    """The channel-layer group of a topic's subscribers."""
    return f"events.{topic}"


def _publish_topic(topic: Topic) -> int:
    total = 0
    # The first look takes no lock: most calls find nothing.
    while topic.due().exists():
        numbered, is_held_up = _number_batch(topic)
        total += numbered
        if is_held_up:
            break
    return total


@transaction.atomic
def _number_batch(topic: Topic) -> tuple[int, bool]:
    """Number the next rows; how many, and whether a row that cannot be told is in the way."""
    _wait_for_turn()
    rows = list(topic.due()[:BATCH])
    told = list(_told(topic, rows))
    if not told:
        return 0, bool(rows)
    last = Event.objects.aggregate(seq=Max("seq"))["seq"] or 0
    prev = Event.objects.filter(topic=topic.name).aggregate(seq=Max("seq"))["seq"] or 0
    numbered_at = clock.wall_now()
    events = []
    for seq, (row, data) in enumerate(told, start=last + 1):
        events.append(
            Event(
                seq=seq,
                topic=topic.name,
                prev=prev,
                row_id=row.pk,
                at=row.at,
                data=data,
                numbered_at=numbered_at,
            )
        )
        prev = seq
    Event.objects.bulk_create(events)
    transaction.on_commit(partial(_nudge, topic.name), robust=True)
    return len(events), len(told) < len(rows)


def _told(topic: Topic, rows: Sequence[Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each row with its data, up to the first that is no JSON."""
    for row in rows:
        try:
            data = topic.to_json(row)
            json.dumps(data, allow_nan=False)
        except DatabaseError:
            raise
        except Exception:
            logger.exception("row_not_told", topic=topic.name, row=row.pk)
            return
        yield row, data


def _wait_for_turn() -> None:
    """Be the only sequencer until the transaction ends.

    PostgreSQL frees the lock after the commit is visible, so the next holder sees every number
    that was given. SQLite needs nothing: the transaction began IMMEDIATE, as the only writer.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SEQUENCER_LOCK])


def _nudge(topic: str) -> None:
    """Wake the topic's subscribers. A lost nudge costs them one poll interval, nothing more."""
    layer = get_channel_layer()
    try:
        async_to_sync(layer.group_send)(events_group(topic), {"type": "events.numbered"})
    except (OSError, RedisError) as error:
        logger.warning("subscribers were not nudged", topic=topic, error=str(error))
