"""The pages of the macro series."""

from __future__ import annotations

from django.contrib import admin
from unfold.admin import ModelAdmin

from collectors.admin.collection import findings_summary
from collectors.admin.records import RecordAdmin
from collectors.models import (
    MacroObservation,
    MacroSeries,
)


@admin.register(MacroSeries)
class MacroSeriesAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = [
        "series_id", "name", "units", "frequency", "is_enabled", "last_success_at",
        "consecutive_failures", "last_error",
    ]  # fmt: skip
    readonly_fields = [
        "last_success_at", "consecutive_failures", "last_error", "retry_at", "findings",
    ]  # fmt: skip
    list_filter = ["frequency", "is_enabled"]
    search_fields = ["series_id", "name"]

    @admin.display(description="quality findings")
    def findings(self, series: MacroSeries) -> str:
        """How often what was found, with the way to the rows."""
        return findings_summary(series, "macro_series__id__exact")


@admin.register(MacroObservation)
class MacroObservationAdmin(RecordAdmin):
    list_display = [
        "series", "date", "value", "realtime_start", "released_at", "is_release_assumed",
    ]  # fmt: skip
    list_filter = ["series", "is_release_assumed"]
    ordering = ["-date", "series", "-realtime_start"]
    search_fields = ["series__series_id"]
    list_select_related = ["series"]
    date_hierarchy = "date"
