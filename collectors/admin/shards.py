"""The pages of the stream processes and what each of them streams."""

from __future__ import annotations

from django.contrib import admin

from collectors import clock
from collectors.admin.records import RecordAdmin
from collectors.models import StreamProcess, StreamShard
from collectors.owners import Owner


def process_of(row: StreamShard | StreamProcess) -> str:
    """The host and the pid of the owner; empty without one."""
    owner = Owner.parse(row.owner)
    return row.owner if owner is None else f"{owner.host}, pid {owner.pid}"


@admin.register(StreamShard)
class StreamShardAdmin(RecordAdmin):
    list_display = ["number", "spread", "process", "leased_until", "attempt"]
    search_fields = ["owner"]

    @admin.display(description="streamed by")
    def process(self, shard: StreamShard) -> str:
        """Who streams its instruments; empty when nobody does, as when the owner was killed."""
        is_leased = shard.leased_until is not None and shard.leased_until > clock.wall_now()
        return process_of(shard) if is_leased else ""


@admin.register(StreamProcess)
class StreamProcessAdmin(RecordAdmin):
    list_display = ["process", "leased_until"]
    search_fields = ["owner"]

    @admin.display(description="process")
    def process(self, row: StreamProcess) -> str:
        """Its host and its pid."""
        return process_of(row)
