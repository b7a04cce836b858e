"""The durable event sequence that subscribers replay."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Event(models.Model):
    """One numbered event: `seq` over all topics, `prev` the seq before it in its topic.

    The row stays for ever, because a row without an event is numbered; what grows old is `data`,
    which becomes null when the event is no longer kept for replay.
    """

    seq = models.BigIntegerField(primary_key=True)
    topic = models.CharField(max_length=16)
    prev = models.BigIntegerField(help_text="0 for the first of its topic")
    row_id = models.BigIntegerField()
    version = models.PositiveIntegerField(default=1)
    at = models.DateTimeField(help_text="market time")
    data = models.JSONField(null=True, help_text="null once it is no longer kept")
    numbered_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["seq"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["topic", "row_id", "version"], name="event_once"),
            models.UniqueConstraint(fields=["topic", "prev"], name="event_chain"),
        ]
        indexes: ClassVar = [models.Index(fields=["topic", "seq"])]

    def __str__(self) -> str:
        return f"{self.topic} {self.seq}"
