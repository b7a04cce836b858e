"""The page of the funding settlements."""

from __future__ import annotations

from django.contrib import admin

from collectors.admin.books import figure
from collectors.admin.records import RecordAdmin
from collectors.models import FundingRate


@admin.register(FundingRate)
class FundingRateAdmin(RecordAdmin):
    list_display = [
        "funding_time", "instrument", "exchange", "symbol", "percent", "mark_price", "interval",
        "is_confirmed",
    ]  # fmt: skip
    list_filter = ["exchange", "is_confirmed", "instrument"]
    search_fields = ["symbol", "instrument__coin_id"]
    list_select_related = ["instrument"]
    date_hierarchy = "funding_time"
    ordering = ["-funding_time", "instrument", "exchange"]
    percent = figure("rate", "{:+.4%}", title="rate")
    interval = figure("interval_hours", "{:g} h")
