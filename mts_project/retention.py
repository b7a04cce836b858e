"""For how long each kind of row is kept, and how the rest is forgotten: in chunks, and never
before it is in the archive, where the kind is archived."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import structlog
from django.db import transaction
from django.utils.module_loading import import_string

from collectors.formats import FormatError
from collectors.models import RetentionPolicy
from mts_project.archive import archive_kind, archive_lock, day_figures, midnight
from mts_project.stored_kinds import KINDS_BY_NAME, STORED_KINDS, StoredKind

log = structlog.get_logger(__name__)

CHUNK = 5_000


@transaction.atomic
def seed_retention() -> int:
    """Make the policies that are missing; gives how many were made."""
    made = 0
    for kind in STORED_KINDS:
        _, is_new = RetentionPolicy.objects.get_or_create(
            kind=kind.name, defaults={"keep_days": kind.keep_days}
        )
        made += is_new
    return made


def prune_rows(*, now: datetime) -> dict[str, int]:
    """Delete what is older than its policy keeps, in market days before the day of `now`; gives
    the number of rows by kind.

    Of an archived kind only days that the archive has are deleted, each compared with its file
    once more: a late row is archived first. Does nothing while somebody works on the archive.
    """
    deleted: dict[str, int] = {}
    with archive_lock() as is_ours:
        if not is_ours:
            return deleted
        for policy in RetentionPolicy.objects.filter(keep_days__isnull=False):
            kind = KINDS_BY_NAME.get(policy.kind)
            if kind is None or kind.is_kept:
                continue
            try:
                deleted[kind.name] = _prune_kind(kind, policy, now.date())
            except (OSError, FormatError) as problem:
                log.error("not_pruned", kind=kind.name, problem=str(problem))
    return deleted


def _prune_kind(kind: StoredKind, policy: RetentionPolicy, today: date) -> int:
    """Delete the days that are neither kept nor unarchived."""
    first_kept = today - timedelta(days=policy.keep_days or 0)
    if policy.is_archived:
        if policy.archived_through is None:
            return 0
        first_kept = min(first_kept, policy.archived_through + timedelta(days=1))
    last = first_kept - timedelta(days=1)
    figures = day_figures(kind=kind, through=last)
    if not figures:
        return 0
    if policy.is_archived:
        archive_kind(kind=kind, through=last)
    # What comes from here on has a higher id, is not in the archive, and stays.
    newest_id = max(day.newest_id for day in figures.values())
    before = midnight(first_kept)
    if kind.prune:
        deleted: int = import_string(kind.prune)(before=before, newest_id=newest_id)
    else:
        deleted = _delete(kind, before, newest_id)
    RetentionPolicy.objects.filter(pk=policy.pk).update(pruned_before=before)
    log.info("pruned", kind=kind.name, before=before.isoformat(), rows=deleted)
    return deleted


def _delete(kind: StoredKind, before: datetime, newest_id: int) -> int:
    """Delete in chunks, the oldest rows first, each chunk in a transaction of its own."""
    free = {f"{name}__isnull": True for name in kind.referring}
    old = kind.between(None, before).filter(pk__lte=newest_id, **free).order_by("pk")
    deleted = 0
    while chunk := list(old.values_list("pk", flat=True)[:CHUNK]):
        kind.model._default_manager.filter(pk__in=chunk).delete()
        deleted += len(chunk)
    return deleted
