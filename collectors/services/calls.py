"""How counted provider calls reach the table that outlives Redis."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from collectors.budget import CallCount
from collectors.models import ProviderCallMinute
from collectors.services.providers import call_budget


def flush_provider_calls() -> int:
    """Add what all processes have counted to the table; gives the number of calls.

    A count is taken out of Redis once. What cannot be stored is put back.
    """
    budget = call_budget()
    counts = budget.drain()
    if not counts:
        return 0
    try:
        with transaction.atomic():
            for count in counts:
                _add(count)
    except Exception:
        budget.add(counts)
        raise
    return sum(count.calls for count in counts)


def _add(count: CallCount) -> None:
    row, _ = ProviderCallMinute.objects.get_or_create(
        provider=count.provider, endpoint=count.endpoint, minute=count.minute
    )
    ProviderCallMinute.objects.filter(pk=row.pk).update(
        calls=F("calls") + count.calls,
        weight=F("weight") + count.weight,
        errors=F("errors") + count.errors,
        response_ms_total=F("response_ms_total") + count.response_ms_total,
    )
