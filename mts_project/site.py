"""The admin site: the dashboard as its first page, the apps in the order the data flows."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.sites import UnfoldAdminSite

from mts_project.login import LoginThrottle

FLOW = ("collectors", "signals", "risk", "trading", "alerts", "realtime")
# The collectors' many tables under headings; a table that is named nowhere comes under the last.
COLLECTORS = {
    "What is collected": ("Instrument", "Listing", "MacroSeries", "Backfill", "RetentionPolicy"),
    "What is stored": (
        "CoverageMap",
        "Ohlcv",
        "MacroObservation",
        "FundingRate",
        "LiveBooks",
        "BookSample",
        "BookHour",
        "BookDowntime",
    ),
    "How it went": ("CollectionState", "QualityFinding", "CandleHole", "CandleReplacement"),
    "Who may ask": ("ApiKey",),
}

# Pages that are no table: name, address, the permission to see it, and the table below whose
# address theirs lies.
PAGES = {
    "CoverageMap": (
        "Coverage by day", "collectors_coverage_map", "collectors.view_candlehole", "CandleHole",
    ),
    "LiveBooks": (
        "Live books", "collectors_live_books", "collectors.view_booksample", "BookSample",
    ),
    "StrategyChart": (
        "Strategy chart", "signals_strategy_chart", "signals.view_signal", "Signal",
    ),
    "HeatMap": (
        "Heat map", "trading_heat", "trading.view_account", "Account",
    ),
    "TradingState": (
        "Trading state", "trading_switch", "trading.view_account", "Account",
    ),
}  # fmt: skip


def page_link(object_name: str) -> dict[str, Any]:
    """A page of PAGES as an entry among its app's tables."""
    name, address, _, _ = PAGES[object_name]
    return {
        "name": name,
        "object_name": object_name,
        "admin_url": reverse(f"admin:{address}"),
        "add_url": None,
        "view_only": True,
        "perms": {"add": False, "change": False, "delete": False, "view": True},
    }


def tell_apart(tables: list[dict[str, Any]], path: str) -> None:
    """See that the entry of the page that is shown is the only one marked.

    A menu marks every entry whose address the path begins with, and the address of a page of
    PAGES begins with that of its table: then the table's is changed.
    """
    shown_below = {
        table
        for page, (*_, table) in PAGES.items()
        if path.startswith(page_link(page)["admin_url"])
    }
    for table in tables:
        if table["object_name"] in shown_below:
            table["admin_url"] += "?"


def under_headings(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The collectors' tables in the order of COLLECTORS; the first of each group has a `header`."""
    place = {
        name: (row, column)
        for row, names in enumerate(COLLECTORS.values())
        for column, name in enumerate(names)
    }
    rest = len(COLLECTORS) - 1
    ordered = sorted(tables, key=lambda table: place.get(table["object_name"], (rest, 99)))
    shown: set[int] = set()
    for table in ordered:
        group = place.get(table["object_name"], (rest, 99))[0]
        if group not in shown:
            shown.add(group)
            table["header"] = list(COLLECTORS)[group]
    return ordered


class OperatorSite(UnfoldAdminSite):  # type: ignore[misc]
    """What an operator works with."""

    index_title = "Dashboard"

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The login page, which slows down whoever guesses passwords."""
        throttle: Any = LoginThrottle()
        if request.method == "POST" and not throttle.allow_request(request, None):
            return HttpResponse("Too many attempts: wait a minute.", status=429)
        answer: HttpResponse = super().login(request, extra_context)
        return answer

    def get_app_list(
        self, request: HttpRequest, app_label: str | None = None
    ) -> list[dict[str, Any]]:
        """The product's apps first, as the data flows; schedules and logins after them."""
        apps: list[dict[str, Any]] = super().get_app_list(request, app_label)
        for app in apps:
            for page, (_, _, permission, _) in PAGES.items():
                is_ours = permission.startswith(f"{app['app_label']}.")
                if is_ours and request.user.has_perm(permission):
                    app["models"].append(page_link(page))
            if app["app_label"] == "collectors":
                app["models"] = under_headings(app["models"])
            tell_apart(app["models"], request.path)
        order = {label: place for place, label in enumerate(FLOW)}
        return sorted(apps, key=lambda app: order.get(app["app_label"], len(FLOW)))
