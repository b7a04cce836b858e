"""What a subscriber may still read: where a topic stands, and its events after a cursor."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Max

from realtime.messages import Envelope, encode
from realtime.models import Event
from realtime.topics import TOPICS

PAGE = 500


@dataclass(frozen=True)
class Extent:
    """What is there of a topic.

    `newest_of_all` is the newest seq of all topics and `newest` that of this one (0 for none);
    `oldest` the oldest event that is kept, and `complete_after` the smallest cursor after which
    none is missing.
    """

    newest_of_all: int
    newest: int
    oldest: int | None
    complete_after: int


def topic_extent(*, topic: str) -> Extent:
    """Where `topic` stands now."""
    # The topic's newest first: an event that is numbered between the reads is then after it, also
    # when it is the topic's first one. Everything up to `newest` is missing only if none is kept.
    newest = Event.objects.filter(topic=topic).aggregate(newest=Max("seq"))["newest"] or 0
    first = (
        Event.objects.filter(topic=topic, data__isnull=False)
        .order_by("seq")
        .values_list("seq", "prev")
        .first()
    )
    newest_of_all = Event.objects.aggregate(newest=Max("seq"))["newest"] or 0
    oldest, complete_after = first if first else (None, newest)
    return Extent(newest_of_all, newest, oldest, complete_after)


def events_after(*, topic: str, seq: int, limit: int = PAGE) -> list[tuple[int, str]]:
    """The next events of `topic` after `seq`, oldest first, as (seq, message text)."""
    message_type = TOPICS[topic].message_type
    rows = Event.objects.filter(topic=topic, seq__gt=seq, data__isnull=False).order_by("seq")
    return [
        (
            event.seq,
            encode(
                Envelope(
                    type=message_type,
                    seq=event.seq,
                    prev=event.prev,
                    at=event.at,
                    data=event.data or {},
                )
            ),
        )
        for event in rows[:limit]
    ]
