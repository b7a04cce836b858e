"""How settlements become rows: what the stream has seen at once, what the exchange's history says
later. The history confirms or corrects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import transaction

from collectors import clock
from collectors.models import FundingRate, Instrument
from collectors.quality import Finding
from collectors.services.findings import record_findings
from collectors.settlements import SeenSettlement
from collectors.venues import Settlement


def funding_subject(exchange: str, symbol: str) -> str:
    """The name of a symbol's settlements among the findings."""
    return f"funding:{exchange}:{symbol}"


def store_seen_settlements(seen: Sequence[tuple[Instrument, SeenSettlement]]) -> int:
    """Store the settlements that the stream has shown, unconfirmed; gives how many were new.

    One that is there, from wherever, stays as it is.
    """
    stored = 0
    with transaction.atomic():
        for instrument, item in sorted(seen, key=lambda pair: pair[1].funding_time):
            _, is_new = FundingRate.objects.get_or_create(
                instrument=instrument,
                exchange=item.exchange,
                funding_time=item.funding_time,
                defaults={
                    "symbol": item.symbol,
                    "rate": item.rate,
                    "mark_price": item.mark_price,
                    "interval_hours": item.interval_hours or _usual_interval(instrument, item),
                    "is_confirmed": False,
                    "received_at": clock.wall_now(),
                },
            )
            stored += is_new
    return stored


def _usual_interval(instrument: Instrument, item: SeenSettlement) -> float | None:
    """The interval of the settlement before in the table, where this one is the next by it. Else
    unknown: others may be missing in between."""
    before = (
        FundingRate.objects.filter(
            instrument=instrument, exchange=item.exchange, funding_time__lt=item.funding_time
        )
        .order_by("-funding_time")
        .first()
    )
    if before is None or not before.interval_hours:
        return None
    is_next = before.funding_time + timedelta(hours=before.interval_hours) == item.funding_time
    return before.interval_hours if is_next else None


class StoredHistory(NamedTuple):
    """How many rows the exchange's history made, confirmed, and of these corrected."""

    new: int
    confirmed: int
    corrected: int

    def plus(self, other: StoredHistory) -> StoredHistory:
        """Both together."""
        return StoredHistory(
            self.new + other.new,
            self.confirmed + other.confirmed,
            self.corrected + other.corrected,
        )


def store_history(
    *, instrument: Instrument, exchange: str, since: datetime, found: Sequence[Settlement]
) -> StoredHistory:
    """Store what the exchange's history says from `since` on (oldest first, without a hole, the
    first one the next after what the table has before it).

    Rows that the stream has made are confirmed. A rate that it had wrong is corrected, and what
    the history passes over is removed; either is a finding.
    """
    if not found:
        return StoredHistory(0, 0, 0)
    with transaction.atomic():
        return _store_history(instrument, exchange, since, found)


def _store_history(
    instrument: Instrument, exchange: str, since: datetime, found: Sequence[Settlement]
) -> StoredHistory:
    rates = FundingRate.objects.filter(instrument=instrument, exchange=exchange)
    span = rates.filter(funding_time__gte=since, funding_time__lte=found[-1].funding_time)
    known = {rate.funding_time: rate for rate in span}
    earlier = rates.filter(funding_time__lt=since).order_by("-funding_time")
    before = earlier.values_list("funding_time", flat=True).first()
    rows: list[FundingRate] = []
    findings: list[Finding] = []
    confirmed = 0
    for item in found:
        hours = (item.funding_time - before).total_seconds() / 3600 if before else None
        rate = known.pop(item.funding_time, None)
        if rate is None:
            rows.append(_row(instrument, item, hours))
        elif not rate.is_confirmed:
            confirmed += 1
            if rate.rate != item.rate:
                values = {"kept": {"rate": item.rate}, "dropped": {"rate": rate.rate}}
                findings.append(_finding(rate, "streamed funding rate corrected", values))
            _confirm(rate, item, hours)
        before = item.funding_time
    for rate in known.values():
        if not rate.is_confirmed:
            values = {"dropped": {"rate": rate.rate}}
            findings.append(_finding(rate, "streamed settlement not in the history", values))
            rate.delete()
    FundingRate.objects.bulk_create(rows, ignore_conflicts=True)
    subject = funding_subject(exchange, found[0].symbol)
    record_findings(subject=subject, findings=findings, instrument=instrument)
    return StoredHistory(len(rows), confirmed, len(findings))


def _row(instrument: Instrument, item: Settlement, hours: float | None) -> FundingRate:
    return FundingRate(
        instrument=instrument,
        exchange=item.exchange,
        symbol=item.symbol,
        funding_time=item.funding_time,
        rate=item.rate,
        mark_price=item.mark_price,
        interval_hours=hours,
        received_at=clock.wall_now(),
    )


def _confirm(rate: FundingRate, item: Settlement, hours: float | None) -> None:
    """Take what the history says. A row that it only confirms is not received anew: an archive
    has it already."""
    said = {
        "rate": item.rate,
        "mark_price": rate.mark_price if item.mark_price is None else item.mark_price,
        "interval_hours": rate.interval_hours if hours is None else hours,
    }
    changed = {name: value for name, value in said.items() if getattr(rate, name) != value}
    received: dict[str, datetime] = {"received_at": clock.wall_now()} if changed else {}
    FundingRate.objects.filter(pk=rate.pk).update(is_confirmed=True, **changed, **received)


def _finding(rate: FundingRate, reason: str, values: dict[str, Any]) -> Finding:
    return Finding(
        verdict="flagged",
        reason=reason,
        at=rate.funding_time,
        source=rate.exchange,
        values=values,
    )
