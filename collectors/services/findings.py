"""How findings about doubtful values are kept: counted, bounded, and never in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

import structlog
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import F

from collectors import clock
from collectors.marketdata import Candle, candle_key
from collectors.models import Instrument, MacroSeries, QualityFinding
from collectors.quality import Finding, review_candles

log = structlog.get_logger(__name__)

# Rows of one source and reason in one call; what is more is counted in one row.
MOST_ROWS = 20

Key = tuple[str, str, datetime]  # source, reason, at: what a subject's finding is unique by


def record_findings(
    *,
    subject: str,
    findings: Iterable[Finding],
    instrument: Instrument | None = None,
    macro_series: MacroSeries | None = None,
) -> int:
    """Keep the findings about one series (`subject` is its key); gives how many rows are new.

    A finding that is known already is counted up. Of each source and reason the first 20 have rows
    of their own, in order of time, and the rest is counted in a row at the first of them. In a
    transaction it is a part of it. A database error is logged and not raised: a finding must not
    keep good values from being stored.
    """
    found = list(findings)
    if not found:
        return 0
    _log(subject, found)
    counted = Counter(_key(finding) for finding in found)
    rows = _bounded({_key(finding): finding for finding in reversed(found)}, counted)
    try:
        with transaction.atomic():
            return _write(subject, rows, counted, instrument, macro_series)
    except (DatabaseError, InterfaceError) as problem:
        log.warning("findings_not_kept", subject=subject, count=len(found), problem=str(problem))
        return 0


def keep_possible(
    *, instrument: Instrument, timeframe: str, candles: Iterable[Candle]
) -> tuple[list[Candle], int]:
    """The candles of one source's answer that can be stored, and how many cannot; what was wrong
    with any of them is recorded. The answer's order is oldest first, as its source promises."""
    review = review_candles(candles, timeframe=timeframe, now=clock.now())
    record_findings(
        subject=candle_key(instrument.coin_id, timeframe),
        findings=review.findings,
        instrument=instrument,
    )
    return review.candles, len(review.rejected)


def _key(finding: Finding) -> Key:
    return finding.source[:16], finding.reason[:64], finding.at


def _bounded(found: dict[Key, Finding], counted: Counter[Key]) -> dict[Key, Finding]:
    """At most MOST_ROWS of each source and reason, and one for the others, whose number goes into
    `counted`."""
    groups: dict[tuple[str, str], list[Key]] = {}
    for key in sorted(found):
        groups.setdefault(key[:2], []).append(key)
    rows: dict[Key, Finding] = {}
    for keys in groups.values():
        rows.update((key, found[key]) for key in keys[:MOST_ROWS])
        if rest := keys[MOST_ROWS:]:
            first = found[rest[0]]
            rows[rest[0]] = Finding(
                verdict=first.verdict,
                reason=first.reason,
                at=first.at,
                source=first.source,
                values={"more": len(rest), "last": rest[-1][2].isoformat(), "first": first.values},
            )
            counted[rest[0]] = sum(counted[key] for key in rest)
    return rows


def _write(
    subject: str,
    rows: dict[Key, Finding],
    counted: Counter[Key],
    instrument: Instrument | None,
    macro_series: MacroSeries | None,
) -> int:
    now = clock.now()
    known = QualityFinding.objects.filter(
        subject=subject, reason__in={key[1] for key in rows}, at__in={key[2] for key in rows}
    ).order_by("pk")
    left = dict(rows)
    for pk, source, reason, at in known.values_list("pk", "source", "reason", "at"):
        if left.pop((source, reason, at), None) is not None:
            QualityFinding.objects.filter(pk=pk).update(
                times=F("times") + counted[source, reason, at], last_seen_at=now
            )
    # Who meets the same at the same moment has made the row: one count is lost, not the row.
    QualityFinding.objects.bulk_create(
        [
            QualityFinding(
                verdict=finding.verdict,
                reason=key[1],
                subject=subject,
                instrument=instrument,
                macro_series=macro_series,
                at=finding.at,
                source=key[0],
                values=finding.values,
                times=counted[key],
                first_seen_at=now,
                last_seen_at=now,
            )
            for key, finding in left.items()
        ],
        ignore_conflicts=True,
    )
    return len(left)


def _log(subject: str, findings: Sequence[Finding]) -> None:
    """One line for each reason, with a sample."""
    for reason, count in Counter(finding.reason for finding in findings).items():
        sample = next(finding for finding in findings if finding.reason == reason)
        log.warning(
            "quality_finding",
            subject=subject,
            verdict=sample.verdict,
            reason=reason,
            count=count,
            source=sample.source,
            at=sample.at.isoformat(),
            sample=str(sample.values),
        )
