"""Django's entry to the risk app."""

from django.apps import AppConfig


class RiskConfig(AppConfig):
    """Names the app; it listens to nothing."""

    name = "risk"
    default_auto_field = "django.db.models.BigAutoField"
