"""The pages of what came from outside: records that nobody can change."""

from __future__ import annotations

from django.contrib import admin

from collectors.admin.records import RecordAdmin
from signals.models import AlertFile, OutsideAlert


@admin.register(OutsideAlert)
class OutsideAlertAdmin(RecordAdmin):
    list_display = [
        "received_at", "verdict", "reason", "asset", "signal_type", "at", "origin", "received_by",
        "file_name", "signal",
    ]  # fmt: skip
    list_filter = ["verdict", "origin", "signal_type", "received_by"]
    search_fields = ["key", "asset", "reason", "file_name"]
    list_select_related = ["signal__instrument"]
    date_hierarchy = "received_at"


@admin.register(AlertFile)
class AlertFileAdmin(RecordAdmin):
    list_display = ["name", "state", "result", "size", "seen_at", "folder"]
    list_filter = ["state", "folder"]
    search_fields = ["name", "result"]
    date_hierarchy = "seen_at"
