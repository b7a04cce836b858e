"""Django's entry to the risk app."""

from django.apps import AppConfig


class RiskConfig(AppConfig):
    """Connects the app's receivers once all models are loaded."""

    name = "risk"
    default_auto_field = "django.db.models.BigAutoField"
