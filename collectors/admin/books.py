"""The pages of the live books, of the sampled ones, of their hours and of their downtimes.

They have no date hierarchy: in SQLite it costs a second for every 70,000 rows, and a year of books
has several times as many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.urls import path
from unfold.decorators import action

from collectors.admin.live import show_live_books, visit_live_books
from collectors.admin.records import RecordAdmin
from collectors.models import BookDowntime, BookHour, BookSample


def figure(field: str, pattern: str, *, title: str = "") -> Callable[[Any, Model], str | None]:
    """A column that shows a number as a person reads it, sorted by the number itself."""

    @admin.display(description=title or field.replace("_", " "), ordering=field, empty_value="-")
    def shown(page: Any, row: Model) -> str | None:
        value = getattr(row, field)
        return None if value is None else pattern.format(value)

    return shown


def pair(fields: Sequence[str], pattern: str, *, title: str) -> Callable[[Any, Model], str | None]:
    """A column that shows two numbers, bid and ask."""

    @admin.display(description=title, ordering=fields[0], empty_value="-")
    def shown(page: Any, row: Model) -> str | None:
        values = [getattr(row, field) for field in fields]
        return None if None in values else " / ".join(pattern.format(value) for value in values)

    return shown


NEAR = pair(("bid_depth_10_bps", "ask_depth_10_bps"), "{:,.0f}", title="depth within 10 bps")
FAR = pair(("bid_depth_50_bps", "ask_depth_50_bps"), "{:,.0f}", title="depth within 50 bps")


@admin.register(BookSample)
class BookSampleAdmin(RecordAdmin):
    list_display = [
        "at", "instrument", "exchange", "best_bid", "best_ask", "quantities", "spread", "is_synced",
        "near", "far", "leaning",
    ]  # fmt: skip
    list_filter = ["at", "exchange", "is_synced", "instrument"]
    search_fields = ["symbol", "instrument__coin_id"]
    list_select_related = ["instrument"]
    ordering = ["-at", "instrument", "exchange"]
    quantities = pair(("bid_quantity", "ask_quantity"), "{:,.4g}", title="quantities")
    spread = figure("spread_bps", "{:.3f}", title="spread (bps)")
    near, far = NEAR, FAR
    leaning = figure("imbalance", "{:+.2f}")
    actions_list = ["live_books"]

    def get_urls(self) -> list[Any]:
        """The live books beside the sampled ones."""
        show = partial(show_live_books, model_admin=self)
        return [
            path("live/", self.admin_site.admin_view(show), name="collectors_live_books"),
            *super().get_urls(),
        ]

    @action(description="Live books", url_path="to-live")  # type: ignore[untyped-decorator]
    def live_books(self, request: HttpRequest) -> HttpResponse:
        """The way to the books as they are now."""
        return visit_live_books()


@admin.register(BookHour)
class BookHourAdmin(RecordAdmin):
    list_display = [
        "hour", "instrument", "exchange", "mean", "lowest", "highest", "near", "far", "synced",
        "withheld", "messages", "gaps", "resyncs",
    ]  # fmt: skip
    list_filter = ["hour", "exchange", "instrument"]
    search_fields = ["symbol", "instrument__coin_id"]
    list_select_related = ["instrument"]
    ordering = ["-hour", "instrument", "exchange"]
    mean = figure("spread_bps_mean", "{:.3f}", title="spread (bps)")
    lowest = figure("spread_bps_min", "{:.3f}", title="lowest")
    highest = figure("spread_bps_max", "{:.3f}", title="highest")
    near, far = NEAR, FAR
    synced = figure("synced_s", "{:,.0f} s", title="synchronised")
    withheld = figure("withheld_s", "{:,.1f} s", title="withheld")


@admin.register(BookDowntime)
class BookDowntimeAdmin(RecordAdmin):
    list_display = ["began_at", "instrument", "exchange", "symbol", "lasted", "reason"]
    list_filter = [
        "began_at", "exchange", ("ended_at", admin.EmptyFieldListFilter), "instrument",
    ]  # fmt: skip
    search_fields = ["symbol", "instrument__coin_id", "reason"]
    list_select_related = ["instrument"]
    ordering = ["-began_at", "instrument", "exchange"]

    @admin.display(description="lasted")
    def lasted(self, row: BookDowntime) -> str:
        return "still lasts" if row.seconds is None else f"{row.seconds:,.1f} s"
