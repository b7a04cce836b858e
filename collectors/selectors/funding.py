"""What is known of funding: the newest settlements, and which only the stream has said."""

from __future__ import annotations

from django.db.models import Max, Q

from collectors.models import FundingRate


def newest_funding(*, exchange: str) -> dict[int, FundingRate]:
    """The newest settlement of every instrument at an exchange, by the instrument's id."""
    rates = FundingRate.objects.filter(exchange=exchange)
    ends = rates.order_by().values("instrument").annotate(end=Max("funding_time"))
    wanted = Q(pk__in=[])
    for row in ends:
        wanted |= Q(instrument=row["instrument"], funding_time=row["end"])
    return {rate.instrument_id: rate for rate in rates.filter(wanted)}


def unconfirmed_funding(*, exchange: str) -> dict[int, list[FundingRate]]:
    """What the stream has seen and the exchange's history has not been asked about, oldest first,
    by the instrument's id."""
    found: dict[int, list[FundingRate]] = {}
    rates = FundingRate.objects.filter(exchange=exchange, is_confirmed=False)
    for rate in rates.order_by("funding_time"):
        found.setdefault(rate.instrument_id, []).append(rate)
    return found
