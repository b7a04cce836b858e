"""The pages of what is collected, and from where."""

from __future__ import annotations

from django.contrib import admin
from unfold.admin import ModelAdmin, TabularInline

from collectors.models import (
    Instrument,
    Listing,
)


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
