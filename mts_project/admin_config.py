"""Which admin site the apps register with."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class OperatorAdminConfig(AdminConfig):
    """The admin with the operator's site in place of Django's."""

    default_site = "mts_project.site.OperatorSite"
