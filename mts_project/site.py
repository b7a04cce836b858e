"""The admin site: the dashboard as its first page, the apps in the order the data flows."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest
from unfold.sites import UnfoldAdminSite

FLOW = ("collectors", "signals", "risk", "trading", "alerts", "realtime")


class OperatorSite(UnfoldAdminSite):  # type: ignore[misc]
    """What an operator works with."""

    index_title = "Dashboard"

    def get_app_list(
        self, request: HttpRequest, app_label: str | None = None
    ) -> list[dict[str, Any]]:
        """The product's apps first, as the data flows; schedules and logins after them."""
        apps: list[dict[str, Any]] = super().get_app_list(request, app_label)
        order = {label: place for place, label in enumerate(FLOW)}
        return sorted(apps, key=lambda app: order.get(app["app_label"], len(FLOW)))


class OperatorAdminConfig(AdminConfig):
    """Makes it the site that every app registers with."""

    default_site = "mts_project.site.OperatorSite"
