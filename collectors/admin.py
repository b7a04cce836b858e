"""The admin pages of the collected data. What was collected is a record and cannot be changed;
what is collected, and from where, can."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from collectors.models import (
    CandleHole,
    CandleReplacement,
    CollectionState,
    Instrument,
    Listing,
    MacroObservation,
    MacroSeries,
    Ohlcv,
    ProviderCallMinute,
    Series,
)


class RecordAdmin(ModelAdmin):  # type: ignore[misc]
    """A page on which nothing can be added, changed or removed."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ListingInline(TabularInline):  # type: ignore[misc]
    """An instrument's symbols on its own page."""

    model = Listing
    extra = 0


@admin.register(Instrument)
class InstrumentAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = [
        "coin_id", "symbol", "name", "sector", "tier", "is_enabled", "is_strategy_enabled",
    ]  # fmt: skip
    list_filter = ["tier", "sector", "is_enabled", "is_strategy_enabled"]
    search_fields = ["coin_id", "symbol", "name"]
    inlines = [ListingInline]


@admin.register(Listing)
class ListingAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = [
        "instrument", "exchange", "symbol", "valid_from", "valid_to", "tick_size", "quantity_step",
        "min_notional",
    ]  # fmt: skip
    list_filter = ["exchange"]
    search_fields = ["symbol", "instrument__coin_id"]
    list_select_related = ["instrument"]


@admin.register(Series)
class SeriesAdmin(RecordAdmin):
    list_display = ["key", "revision"]
    search_fields = ["key"]


@admin.register(Ohlcv)
class OhlcvAdmin(RecordAdmin):
    list_display = [
        "open_time", "instrument", "timeframe", "open", "high", "low", "close", "volume", "source",
        "is_sampled",
    ]  # fmt: skip
    list_filter = ["timeframe", "source", "is_sampled", "instrument"]
    search_fields = ["instrument__coin_id", "instrument__symbol"]
    list_select_related = ["instrument"]
    ordering = ["-id"]
    show_full_result_count = False


@admin.register(CandleReplacement)
class CandleReplacementAdmin(RecordAdmin):
    list_display = ["replaced_at", "candle", "old_source", "new_source", "reason"]
    list_filter = ["reason", "old_source", "new_source"]
    search_fields = ["candle__instrument__coin_id"]
    list_select_related = ["candle"]


@admin.register(CandleHole)
class CandleHoleAdmin(RecordAdmin):
    list_display = ["instrument", "timeframe", "start", "end", "label", "detail", "seen_at"]
    list_filter = ["label", "timeframe", "instrument"]
    search_fields = ["instrument__coin_id", "detail"]
    list_select_related = ["instrument"]


@admin.register(MacroSeries)
class MacroSeriesAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ["series_id", "name", "units", "frequency", "is_enabled"]
    list_filter = ["frequency", "is_enabled"]
    search_fields = ["series_id", "name"]


@admin.register(MacroObservation)
class MacroObservationAdmin(RecordAdmin):
    list_display = [
        "series", "date", "value", "realtime_start", "released_at", "is_release_assumed",
    ]  # fmt: skip
    list_filter = ["series", "is_release_assumed"]
    search_fields = ["series__series_id"]
    list_select_related = ["series"]
    date_hierarchy = "date"


@admin.register(ProviderCallMinute)
class ProviderCallMinuteAdmin(RecordAdmin):
    list_display = [
        "minute", "provider", "endpoint", "calls", "weight", "errors", "response_ms_total",
    ]  # fmt: skip
    list_filter = ["provider", "endpoint"]
    search_fields = ["provider", "endpoint"]


@admin.register(CollectionState)
class CollectionStateAdmin(RecordAdmin):
    list_display = [
        "instrument", "timeframe", "last_success_at", "consecutive_failures", "last_error",
        "attempts", "successes", "history_from",
    ]  # fmt: skip
    list_filter = ["timeframe", "instrument"]
    search_fields = ["instrument__coin_id", "last_error"]
    list_select_related = ["instrument"]
