"""The event sequence in the admin, read only."""

from __future__ import annotations

from django.contrib import admin

from collectors.admin.records import RecordAdmin
from realtime.models import Event


@admin.register(Event)
class EventAdmin(RecordAdmin):
    """What subscribers were sent; nobody edits it."""

    list_display = ("seq", "topic", "prev", "row_id", "at", "numbered_at")
    list_filter = ("topic",)
    search_fields = ("=seq", "=row_id")
    ordering = ("-seq",)
    show_full_result_count = False
