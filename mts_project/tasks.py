"""What the collect queue does for all apps together: archive, and forget."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task

from collectors import clock
from mts_project import archive, retention


@shared_task  # type: ignore[untyped-decorator]
def archive_days() -> int:
    """Write what the archive lacks up to yesterday (market time); gives the number of files."""
    yesterday = clock.now().date() - timedelta(days=1)
    return sum(archive.archive_days(through=yesterday).values())


@shared_task  # type: ignore[untyped-decorator]
def prune_rows() -> int:
    """Delete what the retention policies keep no longer, and old answers to writes; gives the
    number of rows."""
    # Speaks HTTP, of which a worker needs nothing else.
    from collectors.once import forget_old_answers

    return sum(retention.prune_rows(now=clock.now()).values()) + forget_old_answers()
