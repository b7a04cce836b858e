"""The pages of the stored candles."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.urls import path

from collectors.admin.coverage import show_coverage_map, visit_cell
from collectors.admin.records import RecordAdmin
from collectors.models import (
    CandleHole,
    CandleReplacement,
    Ohlcv,
    Series,
    SourceGap,
)


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
    list_select_related = ["candle__instrument"]


@admin.register(CandleHole)
class CandleHoleAdmin(RecordAdmin):
    list_display = ["instrument", "timeframe", "start", "end", "label", "detail", "seen_at"]
    list_filter = ["label", "timeframe", "instrument"]
    search_fields = ["instrument__coin_id", "detail"]
    list_select_related = ["instrument"]

    def get_urls(self) -> list[Any]:
        """The map of all series and days, and the way from one of its cells to its rows."""
        show = partial(show_coverage_map, model_admin=self)
        visit = partial(visit_cell, model_admin=self)
        return [
            path("map/", self.admin_site.admin_view(show), name="collectors_coverage_map"),
            path(
                "map/<int:instrument>/<slug:timeframe>/<int:day>/",
                self.admin_site.admin_view(visit),
                name="collectors_coverage_cell",
            ),
            *super().get_urls(),
        ]


@admin.register(SourceGap)
class SourceGapAdmin(RecordAdmin):
    list_display = ["instrument", "timeframe", "source", "start", "end", "seen_at"]
    list_filter = ["source", "timeframe", "instrument"]
    search_fields = ["instrument__coin_id"]
    list_select_related = ["instrument"]
