"""The page of the funding settlements."""

from __future__ import annotations

from django.contrib import admin

from collectors.admin.records import RecordAdmin
from collectors.models import FundingRate


@admin.register(FundingRate)
class FundingRateAdmin(RecordAdmin):
    list_display = [
        "instrument", "exchange", "symbol", "funding_time", "rate", "mark_price", "interval_hours",
    ]  # fmt: skip
    list_filter = ["exchange", "instrument"]
    search_fields = ["symbol", "instrument__coin_id"]
    list_select_related = ["instrument"]
    date_hierarchy = "funding_time"
    ordering = ["-funding_time", "instrument", "exchange"]
