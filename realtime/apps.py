"""Django's entry to the realtime app."""

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    """Connects the app's receivers once all models are loaded."""

    name = "realtime"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receivers; their imports need every app's models."""
        from realtime import receivers

        receivers.connect()
