"""Django's entry to the collectors app."""

from django.apps import AppConfig


class CollectorsConfig(AppConfig):
    """Connects the app's receivers once all models are loaded."""

    name = "collectors"
    default_auto_field = "django.db.models.BigAutoField"
