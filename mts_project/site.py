"""The admin site: the dashboard as its first page, the apps in the order the data flows."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.sites import UnfoldAdminSite

from mts_project.login import LoginThrottle

FLOW = ("collectors", "signals", "risk", "trading", "alerts", "realtime")


COVERAGE_PERMISSION = "collectors.view_candlehole"


def coverage_link() -> dict[str, Any]:
    """The map of all series and days, as an entry among its app's tables."""
    return {
        "name": "Coverage by day",
        "object_name": "CoverageMap",
        "admin_url": reverse("admin:collectors_coverage_map"),
        "add_url": None,
        "view_only": True,
        "perms": {"add": False, "change": False, "delete": False, "view": True},
    }


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
            if app["app_label"] == "collectors" and request.user.has_perm(COVERAGE_PERMISSION):
                app["models"].append(coverage_link())
        order = {label: place for place, label in enumerate(FLOW)}
        return sorted(apps, key=lambda app: order.get(app["app_label"], len(FLOW)))
