"""Django's entry to the signals app."""

from importlib import import_module

from django.apps import AppConfig


class SignalsConfig(AppConfig):
    """Connects the app's receivers once all models are loaded."""

    name = "signals"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receivers."""
        import_module("signals.receivers")
