"""Which signals from outside wait for their turn at an account."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Exists, OuterRef

from collectors import clock
from signals.models import Signal
from signals.registry import OUTSIDE
from trading.models import Account, OutsideTurn

# Older ones are history: nobody was there to follow them for so long.
REMEMBERED = timedelta(days=7)
LIMIT = 1_000


def outside_signals_due(*, account: Account) -> list[Signal]:
    """The signals that have had no turn at the account, closing ones first, then the newest."""
    since = max(account.created_at, clock.now() - REMEMBERED)
    turns = OutsideTurn.objects.filter(account=account, signal=OuterRef("pk"))
    due = Signal.objects.filter(~Exists(turns), strategy=OUTSIDE, at__gte=since)
    found = due.select_related("instrument").order_by("-at", "-pk")[:LIMIT]
    return sorted(found, key=lambda signal: signal.direction != 0)
