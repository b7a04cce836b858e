"""The pages of how collection stands."""

from __future__ import annotations

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html

from collectors.admin.records import RecordAdmin
from collectors.models import (
    CollectionState,
    Instrument,
    MacroSeries,
    ProviderBlock,
    ProviderCallMinute,
    QualityFinding,
)
from collectors.selectors import findings_by_reason


@admin.register(ProviderCallMinute)
class ProviderCallMinuteAdmin(RecordAdmin):
    list_display = [
        "minute", "provider", "endpoint", "calls", "weight", "errors", "mean_response",
    ]  # fmt: skip
    list_filter = ["provider", "endpoint"]
    search_fields = ["provider", "endpoint"]

    @admin.display(description="mean response")
    def mean_response(self, row: ProviderCallMinute) -> str:
        """The mean wall time of an answer."""
        return f"{row.response_ms_total / row.calls:.1f} ms" if row.calls else ""


@admin.register(ProviderBlock)
class ProviderBlockAdmin(RecordAdmin):
    list_display = ["provider", "until"]


@admin.register(CollectionState)
class CollectionStateAdmin(RecordAdmin):
    list_display = [
        "instrument", "timeframe", "last_success_at", "next_due_at", "consecutive_failures",
        "success_share", "mean_response", "last_error", "history_from",
    ]  # fmt: skip
    list_filter = ["timeframe", "instrument"]
    search_fields = ["instrument__coin_id", "last_error"]
    list_select_related = ["instrument"]

    @admin.display(description="success rate")
    def success_share(self, state: CollectionState) -> str:
        """The share of collections that every asked source answered, and of how many."""
        rate = state.success_rate
        return "" if rate is None else f"{rate:.1%} of {state.attempts}"

    @admin.display(description="response")
    def mean_response(self, state: CollectionState) -> str:
        """The mean time of an answer in the last collection."""
        return "" if state.response_ms is None else f"{state.response_ms:.1f} ms"


@admin.register(QualityFinding)
class QualityFindingAdmin(RecordAdmin):
    list_display = [
        "last_seen_at", "verdict", "reason", "subject", "source", "at", "times", "first_seen_at",
    ]  # fmt: skip
    list_filter = ["verdict", "reason", "source", "instrument", "macro_series", "subject"]
    search_fields = ["subject", "reason", "source"]
    list_select_related = ["instrument", "macro_series"]
    date_hierarchy = "last_seen_at"
    show_full_result_count = False


def findings_summary(about: Instrument | MacroSeries, column: str) -> str:
    """What was found about it and how often, as a link to the rows whose `column` is its key."""
    counts = findings_by_reason(about=about) if about.pk else []
    if not counts:
        return "none"
    address = reverse("admin:collectors_qualityfinding_changelist")
    text = ", ".join(f"{reason} ({verdict}, {times} times)" for verdict, reason, times in counts)
    return format_html('<a href="{}?{}={}">{}</a>', address, column, about.pk, text)
