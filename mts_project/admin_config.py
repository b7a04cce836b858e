"""Which admin site the apps register with, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib.admin import autodiscover
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class OperatorAdminConfig(SimpleAdminConfig):
    """The admin with the operator's site in place of Django's.

    Its pages are imported with the URLs of the web process. Workers, beat and streams show
    nobody a page: with the pages and what they need, each would take half as long again to start.
    """

    default_site = "mts_project.site.OperatorSite"

    def ready(self) -> None:
        """Register Django's checks of the admin, which then have pages to look at."""
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_pages, checks.Tags.admin)


def check_pages(
    app_configs: Sequence[AppConfig] | None, **options: Any
) -> Sequence[checks.CheckMessage]:
    """Django's check of every page, with the pages imported."""
    autodiscover()
    return check_admin_app(app_configs, **options)
