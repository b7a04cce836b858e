"""The lease of a bar run: who computes a bar, and until when nobody else may."""

from __future__ import annotations

import os
import socket
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from collectors import clock
from collectors.renewal import renewing
from signals.models import BarRun, RunState

LEASE = timedelta(seconds=30)
RENEW_SECONDS = 10.0


def take_lease(*, timeframe: str, bar: datetime) -> BarRun | None:
    """Take the bar's run for LEASE of database time; None while somebody else holds it."""
    BarRun.objects.bulk_create(
        [BarRun(timeframe=timeframe, bar_open_time=bar, started_at=clock.wall_now())],
        ignore_conflicts=True,
    )
    # The end of it is what differs between two callers; a host name may fill the column alone.
    owner = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"[-64:]
    taken = (
        BarRun.objects.filter(timeframe=timeframe, bar_open_time=bar, state=RunState.RUNNING)
        .filter(Q(leased_until__isnull=True) | Q(leased_until__lt=Now()))
        .update(owner=owner, attempt=F("attempt") + 1, leased_until=Now() + LEASE)
    )
    if not taken:
        return None
    return BarRun.objects.filter(timeframe=timeframe, bar_open_time=bar, owner=owner).first()


def held(run: BarRun) -> QuerySet[BarRun]:
    """The run's row while it is ours: what is written through it is fenced by the attempt."""
    return BarRun.objects.filter(pk=run.pk, attempt=run.attempt, state=RunState.RUNNING)


def lease_kept(run: BarRun) -> AbstractContextManager[None]:
    """Renew the lease from a thread: a strategy reports no progress while it computes."""
    return renewing(
        lambda: held(run).update(leased_until=Now() + LEASE),
        every_s=RENEW_SECONDS,
        name=f"lease-bar-run-{run.pk}",
    )
