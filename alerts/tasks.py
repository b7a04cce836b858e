"""Alerting as Celery tasks."""

from __future__ import annotations

from celery import shared_task

from alerts import services


@shared_task  # type: ignore[untyped-decorator]
def raise_due_alerts() -> int:
    """Raise the alerts that recent rows deserve."""
    return services.raise_due_alerts()


@shared_task  # type: ignore[untyped-decorator]
def deliver_due() -> int:
    """Deliver the alerts that wait."""
    return services.deliver_due()
