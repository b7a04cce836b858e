"""How the streamed instruments are spread over the stream processes."""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import Count
from django.db.models.functions import Now

from collectors.models import StreamProcess, StreamShard


class ShardHolding(NamedTuple):
    """How many shards there are, how many of them are held, and by how many live processes."""

    shards: int
    held: int
    processes: int


def shard_holding() -> ShardHolding:
    """By leases that have not expired: a process that was just killed counts for some seconds."""
    held = StreamShard.objects.filter(leased_until__gt=Now()).aggregate(held=Count("id"))["held"]
    live = StreamProcess.objects.filter(leased_until__gt=Now()).count()
    return ShardHolding(StreamShard.objects.count(), held, live)
