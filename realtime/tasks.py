"""Sequencing as Celery tasks."""

from __future__ import annotations

from celery import shared_task

from realtime import services


@shared_task  # type: ignore[untyped-decorator]
def number_events() -> int:
    """Number and announce every durable row that has no event yet."""
    return services.publish_due_events()


@shared_task  # type: ignore[untyped-decorator]
def forget_old_events() -> int:
    """Stop keeping events that are too old to replay."""
    return services.forget_old_events()
