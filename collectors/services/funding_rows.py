"""How settlements become rows: what the stream has seen at once, what the exchange's history says
later. The history confirms or corrects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import ProtectedError

from collectors import clock, events
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
    changed: set[int] = set()
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
            if is_new:
                changed.add(instrument.pk)
        _announce(changed)
    return stored


def _announce(instrument_ids: Iterable[int]) -> None:
    """Tell, after commit, of which instruments there are other settlements than before."""
    if instrument_ids:
        announcement = partial(
            events.funding_stored.send_robust,
            sender=FundingRate,
            instrument_ids=sorted(instrument_ids),
        )
        transaction.on_commit(announcement, robust=True)


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
    the history passes over is removed, or, where somebody has booked it, says from now on that
    nothing was charged; each is a finding.
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
    has_changed = False
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
            has_changed = _confirm(rate, item, hours) or has_changed
        before = item.funding_time
    for rate in known.values():
        if not rate.is_confirmed:
            values = {"dropped": {"rate": rate.rate}}
            findings.append(_finding(rate, "streamed settlement not in the history", values))
            _take_back(rate)
    FundingRate.objects.bulk_create(rows, ignore_conflicts=True)
    subject = funding_subject(exchange, found[0].symbol)
    record_findings(subject=subject, findings=findings, instrument=instrument)
    if rows or findings or has_changed:
        _announce([instrument.pk])
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


def _take_back(rate: FundingRate) -> None:
    """What the stream has seen was none. Whoever booked it refers to the row, which stays and
    charges nothing: a correction has something to go by."""
    try:
        rate.delete()
    except ProtectedError:
        FundingRate.objects.filter(pk=rate.pk).update(
            rate=0.0, is_confirmed=True, received_at=clock.wall_now()
        )


def _confirm(rate: FundingRate, item: Settlement, hours: float | None) -> bool:
    """Take what the history says; whether that is anything new. A row that it only confirms is not
    received anew: an archive has it already."""
    said = {
        "rate": item.rate,
        "mark_price": rate.mark_price if item.mark_price is None else item.mark_price,
        "interval_hours": rate.interval_hours if hours is None else hours,
    }
    changed = {name: value for name, value in said.items() if getattr(rate, name) != value}
    received: dict[str, datetime] = {"received_at": clock.wall_now()} if changed else {}
    FundingRate.objects.filter(pk=rate.pk).update(is_confirmed=True, **changed, **received)
    return bool(changed)


def _finding(rate: FundingRate, reason: str, values: dict[str, Any]) -> Finding:
    return Finding(
        verdict="flagged",
        reason=reason,
        at=rate.funding_time,
        source=rate.exchange,
        values=values,
    )
