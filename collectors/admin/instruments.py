"""The pages of what is collected, and from where."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from unfold.admin import ModelAdmin, StackedInline
from unfold.decorators import action
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from collectors.admin.backfills import queue_default_history
from collectors.admin.collection import findings_summary
from collectors.admin.live import visit_live_books
from collectors.models import NATIVE_TIMEFRAMES, Instrument, Listing
from collectors.models.instruments import check_timeframes
from collectors.sources import CANDLE_SOURCES


class ListingInline(StackedInline):  # type: ignore[misc]
    """An instrument's symbols on its own page."""

    model = Listing
    extra = 0


class InstrumentForm(forms.ModelForm):  # type: ignore[type-arg]
    """The chain as names in their order, the timeframes as boxes."""

    timeframes = forms.MultipleChoiceField(
        choices=[(name, name) for name in NATIVE_TIMEFRAMES],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        validators=[check_timeframes],
        help_text="what is asked for; 4h and 1d are derived from 1h",
    )
    source_chain = forms.CharField(
        widget=UnfoldAdminTextInputWidget,
        help_text=f"candle sources, best first, comma separated: {', '.join(CANDLE_SOURCES)}",
    )

    class Meta:
        model = Instrument
        fields = "__all__"  # noqa: DJ007 (everything is the operator's)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["source_chain"] = ", ".join(self.initial.get("source_chain") or [])

    def clean_source_chain(self) -> list[str]:
        """The names, each known and named once. Raises ValidationError."""
        names = [name.strip() for name in self.cleaned_data["source_chain"].split(",")]
        wrong = [name for name in names if name not in CANDLE_SOURCES]
        if wrong:
            raise forms.ValidationError(f"{wrong[0]!r} is not one of {', '.join(CANDLE_SOURCES)}")
        if len(set(names)) != len(names):
            raise forms.ValidationError("a source is named twice")
        return names


@admin.register(Instrument)
class InstrumentAdmin(ModelAdmin):  # type: ignore[misc]
    form = InstrumentForm
    list_display = [
        "coin_id", "symbol", "name", "sector", "tier", "collected_in", "sources", "is_enabled",
        "is_strategy_enabled",
    ]  # fmt: skip
    list_filter = ["tier", "sector", "is_enabled", "is_strategy_enabled"]
    search_fields = ["coin_id", "symbol", "name"]
    inlines = [ListingInline]
    readonly_fields = ["findings"]
    actions = ["backfill_default_history"]
    actions_detail = ["live_books"]

    @admin.display(description="timeframes")
    def collected_in(self, instrument: Instrument) -> str:
        """The timeframes that are asked for."""
        return ", ".join(instrument.timeframes)

    @admin.display(description="source chain")
    def sources(self, instrument: Instrument) -> str:
        """The candle sources, best first."""
        return ", ".join(instrument.source_chain)

    @admin.display(description="quality findings")
    def findings(self, instrument: Instrument) -> str:
        """How often what was found, with the way to the rows."""
        return findings_summary(instrument, "instrument__id__exact")

    @action(description="Live books", url_path="live-books")  # type: ignore[untyped-decorator]
    def live_books(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """The way to the instrument's books as they are now."""
        return visit_live_books(get_object_or_404(Instrument, pk=object_id).coin_id)

    @admin.action(description="Backfill the default history", permissions=["change"])
    def backfill_default_history(
        self, request: HttpRequest, queryset: QuerySet[Instrument]
    ) -> None:
        """Queue a backfill for each collected timeframe of the chosen instruments."""
        queue_default_history(request, queryset)


@admin.register(Listing)
class ListingAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = [
        "instrument", "exchange", "symbol", "valid_from", "valid_to", "tick_size", "quantity_step",
        "min_notional", "is_trading",
    ]  # fmt: skip
    list_filter = ["exchange", "is_trading"]
    search_fields = ["symbol", "instrument__coin_id"]
    list_select_related = ["instrument"]
