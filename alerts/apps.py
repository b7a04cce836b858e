"""Django's entry to the alerts app."""

from django.apps import AppConfig


class AlertsConfig(AppConfig):
    """Connects the app's receivers once all models are loaded."""

    name = "alerts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receivers; their imports need every app's models."""
        from alerts import receivers

        receivers.connect()
