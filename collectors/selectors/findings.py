"""What was found wrong with collected values, counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Max, Sum

from collectors.macro_registry import is_stale, place_of
from collectors.models import FindingVerdict, Instrument, MacroSeries, QualityFinding
from collectors.releases import day_in_chicago


@dataclass(frozen=True, kw_only=True)
class QualityToday:
    """Findings last seen within a day (market time), each counted once, and the macro series
    whose newest observation is older than their rhythm allows."""

    rejected: int
    flagged: int
    stale_series: list[str]


def quality_today(*, at: datetime) -> QualityToday:
    """How the quality of the collected data stands at `at` (market time)."""
    recent = QualityFinding.objects.filter(last_seen_at__gt=at - timedelta(days=1))
    counts = dict(recent.order_by().values_list("verdict").annotate(count=Count("pk")))
    return QualityToday(
        rejected=counts.get(FindingVerdict.REJECTED, 0),
        flagged=counts.get(FindingVerdict.FLAGGED, 0),
        stale_series=sorted(stale_series(at=at), key=place_of),
    )


def stale_series(*, at: datetime) -> list[str]:
    """The enabled macro series of which a newer observation should be there at `at`."""
    newest = MacroSeries.objects.filter(is_enabled=True).annotate(newest=Max("observations__date"))
    today = day_in_chicago(at)
    return [
        series_id
        for series_id, date in newest.values_list("series_id", "newest")
        if date is not None and is_stale(series_id, date, today)
    ]


def findings_by_reason(*, about: Instrument | MacroSeries) -> list[tuple[str, str, int]]:
    """(verdict, reason, times) of everything that was found, most frequent first."""
    rows = about.findings.order_by().values_list("verdict", "reason").annotate(total=Sum("times"))
    return sorted(rows, key=lambda row: (-row[2], row))
