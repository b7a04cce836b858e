"""Backfills as rows: worked off in chunks under a lease, resumed where they stood.

LeaseLostError          another worker took over, or somebody cancelled; go no further

A chunk that met a provider's failure is tried again after the pauses below. After the last of
them the backfill fails, unless worse sources gave all that was lacking: then it goes on with
these. A failed one can be started again and goes on at its position.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from collectors import clock
from collectors.marketdata import duration
from collectors.models import Backfill, BackfillState
from collectors.renewal import renewing
from collectors.services.coverage import CHUNK_BARS, ensure_coverage
from collectors.services.search import Coverage

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=30)
RENEW_EVERY_S = 10.0
# Wall time. Together longer than a circuit breaker stays open.
PAUSES_S = (2.0, 5.0, 10.0, 20.0, 30.0)
# A worker that was killed keeps its series for ten seconds.
BUSY_PAUSE_S, MOST_BUSY = 0.5, 120
# More would take the ticks' threads and their share of the budgets.
MOST_AT_ONCE = 2
UNFINISHED = (BackfillState.QUEUED, BackfillState.RUNNING)


class LeaseLostError(Exception):
    """The backfill is not ours any more."""


def due_backfills() -> list[int]:
    """The backfills that a worker should take now, oldest first.

    A queued one is given a lease, so that it is offered again only when no worker has taken it
    for 30 s; one whose worker is gone is offered at every call until another takes it.
    """
    held = Backfill.objects.filter(state__in=UNFINISHED, leased_until__gte=Now()).count()
    free = Q(leased_until=None) | Q(leased_until__lt=Now())
    waiting = Backfill.objects.filter(free, state__in=UNFINISHED).order_by("pk")
    offered = []
    for backfill_id, state in waiting.values_list("pk", "state")[: max(MOST_AT_ONCE - held, 0)]:
        queued = Backfill.objects.filter(free, pk=backfill_id, state=BackfillState.QUEUED)
        if state == BackfillState.RUNNING or queued.update(leased_until=Now() + LEASE):
            offered.append(backfill_id)
    return offered


def cancel_backfill(*, backfill_id: int) -> bool:
    """Cancel what is not finished; whoever works on it stops after the chunk at hand."""
    cancelled = Backfill.objects.filter(pk=backfill_id, state__in=UNFINISHED).update(
        state=BackfillState.CANCELLED, finished_at=clock.wall_now(), leased_until=None
    )
    return cancelled == 1


def run_backfill(
    *, backfill_id: int, on_progress: Callable[[Backfill], None] | None = None
) -> bool:
    """Work a backfill off if nobody else does; whether it was ours.

    What makes it fail is stored in its row. An interruption gives it back, queued.
    """
    claim = _take(backfill_id)
    if claim is None:
        return False
    try:
        with claim.renewed():
            _work_off(claim, on_progress)
    except LeaseLostError:
        log.info("backfill_lease_lost", backfill=backfill_id, attempt=claim.attempt)
    except Exception as error:
        claim.finish(BackfillState.FAILED, f"{type(error).__name__}: {error}")
        raise
    except BaseException:
        claim.mine().update(state=BackfillState.QUEUED, leased_until=None)
        raise
    return True


def _work_off(claim: _Claim, on_progress: Callable[[Backfill], None] | None) -> None:
    failures = busy = 0
    while True:
        row = claim.row()
        if on_progress is not None:
            on_progress(row)
        if row.position >= row.end:
            claim.finish(BackfillState.DONE)
            return
        until = min(row.position + CHUNK_BARS * duration(row.timeframe), row.end)
        coverage = ensure_coverage(
            instrument=row.instrument,
            timeframe=row.timeframe,
            start=row.position,
            until=until,
            retry_labelled=True,
            retry_worse=True,
        )
        claim.count(coverage)
        if coverage.is_busy and busy < MOST_BUSY:
            busy += 1
            claim.pause(BUSY_PAUSE_S)
            continue
        if coverage.errors and failures < len(PAUSES_S):
            claim.pause(PAUSES_S[failures])
            failures += 1
            continue
        if coverage.is_busy or (coverage.errors and coverage.pending):
            problem = coverage.errors[0] if coverage.errors else "another collects this series"
            claim.finish(BackfillState.FAILED, problem)
            return
        busy = 0
        failures = failures if coverage.errors else 0
        claim.hold(position=until, error="")


# -- The lease ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Claim:
    """A backfill that was taken for the `attempt`; everything that is written is fenced by it."""

    backfill_id: int
    attempt: int

    def mine(self) -> QuerySet[Backfill]:
        """The row while it is ours, else nothing."""
        return Backfill.objects.filter(
            pk=self.backfill_id, attempt=self.attempt, state=BackfillState.RUNNING
        )

    def row(self) -> Backfill:
        """The row as it is now. Raises LeaseLostError."""
        row = self.mine().select_related("instrument").first()
        if row is None:
            raise LeaseLostError
        return row

    def hold(self, **fields: object) -> None:
        """Write the fields and renew the lease. Raises LeaseLostError."""
        if not self.mine().update(leased_until=Now() + LEASE, **fields):
            raise LeaseLostError

    def count(self, coverage: Coverage) -> None:
        """Add what a chunk brought. Raises LeaseLostError."""
        problem = coverage.errors[0][:300] if coverage.errors else ""
        self.hold(
            stored=F("stored") + coverage.stored + coverage.replaced,
            requests=F("requests") + coverage.requests,
            error=problem,
        )

    def pause(self, seconds: float) -> None:
        """Wait (wall time), no longer than the backfill is ours. Raises LeaseLostError."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            self.row()

    def finish(self, state: BackfillState, error: str = "") -> None:
        """End it, unless it is not ours any more."""
        self.mine().update(
            state=state, error=error[:300], finished_at=clock.wall_now(), leased_until=None
        )

    def renewed(self) -> AbstractContextManager[None]:
        """Keep the lease while the block runs: a chunk may take longer than it lasts."""
        return renewing(
            lambda: self.mine().update(leased_until=Now() + LEASE),
            every_s=RENEW_EVERY_S,
            name=f"lease-backfill-{self.backfill_id}",
        )


def _take(backfill_id: int) -> _Claim | None:
    """Claim the backfill; None while somebody else holds it or when it is finished."""
    attempt = Backfill.objects.filter(pk=backfill_id).values_list("attempt", flat=True).first()
    if attempt is None:
        return None
    free = Q(state=BackfillState.QUEUED) | Q(state=BackfillState.RUNNING, leased_until__lt=Now())
    taken = Backfill.objects.filter(free, pk=backfill_id, attempt=attempt).update(
        state=BackfillState.RUNNING, attempt=attempt + 1, leased_until=Now() + LEASE
    )
    return _Claim(backfill_id, attempt + 1) if taken else None
