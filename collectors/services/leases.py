"""Who asks the providers for a series: one at a time, for as long as the work runs.

The lease only saves calls, unique keys keep the rows right. It is short because a worker that was
killed holds it until it expires: at an hour of market a second, ten seconds are ten bars.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from collectors import clock
from collectors.models import CollectionState
from collectors.renewal import renewing

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=10)
RENEW_EVERY_S = 3.0


@dataclass(frozen=True)
class Lease:
    """A series that was claimed for the `attempt`; what is written at its end is fenced by it."""

    state_id: int
    attempt: int

    def mine(self) -> QuerySet[CollectionState]:
        """The series' row while nobody has claimed it after us, else nothing."""
        return CollectionState.objects.filter(pk=self.state_id, attempts=self.attempt)

    def renewed(self) -> contextlib.AbstractContextManager[None]:
        """Keep the lease while the block runs; a request may wait longer than the lease lasts."""
        return renewing(
            lambda: self.mine().update(leased_until=Now() + LEASE),
            every_s=RENEW_EVERY_S,
            name=f"lease-series-{self.state_id}",
        )

    def release(self, errors: list[str], response_ms: Sequence[float] = ()) -> None:
        """Give the series back and record how it went: a failure when there were `errors`.
        `response_ms` are the times that the sources took to answer."""
        if response_ms:
            self.mine().update(response_ms=sum(response_ms) / len(response_ms))
        if errors:
            self.mine().update(
                leased_until=None,
                last_error="; ".join(errors)[:300],
                consecutive_failures=F("consecutive_failures") + 1,
            )
        else:
            self.mine().update(
                leased_until=None,
                last_error="",
                consecutive_failures=0,
                successes=F("successes") + 1,
                last_success_at=clock.now(),
            )


def take_lease(state: CollectionState) -> Lease | None:
    """Claim the series; None while somebody else holds it.

    None, too, when somebody has claimed it since `state` was read: what was found lacking after
    that reading is what they have just asked for.
    """
    free = Q(leased_until=None) | Q(leased_until__lt=Now())
    attempt = state.attempts + 1
    claimed = CollectionState.objects.filter(free, pk=state.pk, attempts=state.attempts).update(
        leased_until=Now() + LEASE, attempts=attempt
    )
    return Lease(state.pk, attempt) if claimed else None
