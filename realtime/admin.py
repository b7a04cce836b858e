"""The event sequence in the admin, read only."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from realtime.models import Event


@admin.register(Event)
class EventAdmin(ModelAdmin):  # type: ignore[misc]
    """What subscribers were sent; nobody edits it."""

    list_display = ("seq", "topic", "prev", "row_id", "at", "numbered_at")
    list_filter = ("topic",)
    search_fields = ("=seq", "=row_id")
    ordering = ("-seq",)
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        return False
