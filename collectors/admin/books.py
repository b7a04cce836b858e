"""The page of the sampled books."""

from __future__ import annotations

from django.contrib import admin

from collectors.admin.records import RecordAdmin
from collectors.models import BookSample


@admin.register(BookSample)
class BookSampleAdmin(RecordAdmin):
    list_display = [
        "at", "instrument", "exchange", "best_bid", "bid_quantity", "best_ask", "ask_quantity",
        "spread_bps",
    ]  # fmt: skip
    list_filter = ["exchange", "instrument"]
    search_fields = ["symbol", "instrument__coin_id"]
    list_select_related = ["instrument"]
    date_hierarchy = "at"
    ordering = ["-at", "instrument", "exchange"]
