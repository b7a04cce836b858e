"""Django's entry to the trading app."""

from importlib import import_module

from django.apps import AppConfig


class TradingConfig(AppConfig):
    """Connects the app's receivers once all models are loaded."""

    name = "trading"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receivers."""
        import_module("trading.receivers")
