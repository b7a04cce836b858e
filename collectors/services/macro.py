"""How macro releases are collected: every vintage once, usable from its release."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import F, Max

from collectors import clock, events, selectors
from collectors.exchange import KeyMissing, PermanentError, ProviderError, UnknownSymbol
from collectors.fred import NAME, Vintage
from collectors.macro_registry import check_value
from collectors.marketdata import macro_key
from collectors.models import MacroObservation, MacroSeries, Series
from collectors.quality import Finding
from collectors.releases import day_in_chicago, midnight_in_chicago, next_release
from collectors.services.candles import lock_series
from collectors.services.findings import record_findings
from collectors.services.providers import fred

HISTORY_DEPTH = timedelta(days=400)
# Revisions come within weeks; older observations are not asked for again.
REVISION_SPAN = timedelta(days=90)
# Market time between two questions while they fail: doubled each time, up to a bound. A series that
# FRED does not have is asked for again when the next values are released.
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=30), timedelta(hours=6)


def collect_macro(*, series_id: str) -> int:
    """Store the vintages that are new since the last collection; gives how many. The answered look
    is recorded, whatever it brought.

    A value that the series cannot have is rejected, and found. Raises MacroSeries.DoesNotExist, and
    ProviderError when FRED gives no answer; the series then tells the error, and waits.
    """
    series = MacroSeries.objects.get(series_id=series_id)
    newest = series.observations.aggregate(newest=Max("realtime_start"))["newest"]
    if newest is None:
        observed_from = published_from = (_clock_start() - HISTORY_DEPTH).date()
    else:
        observed_from, published_from = newest - REVISION_SPAN, newest
    looked_at = clock.now()
    try:
        vintages = fred().fetch_vintages(
            series_id,
            observed_from=observed_from,
            published_from=published_from,
            today=day_in_chicago(looked_at),
            known=_known_values(series, observed_from),
        )
    except ProviderError as error:
        _note_failure(series, error, looked_at)
        raise
    doubts = {vintage: _doubt(series, vintage) for vintage in vintages}
    record_findings(
        subject=macro_key(series_id),
        findings=[doubt for doubt in doubts.values() if doubt is not None],
        macro_series=series,
    )
    return _store(series, [each for each, doubt in doubts.items() if doubt is None], looked_at)


def flag_stale_series() -> int:
    """Flag every enabled series whose newest observation is older than its rhythm allows (market
    time), once for each stretch without a new one; gives how many were flagged."""
    now = clock.now()
    flagged = 0
    stale = MacroSeries.objects.filter(series_id__in=selectors.stale_series(at=now))
    for series in stale.annotate(newest=Max("observations__date")):
        newest: date = series.newest
        finding = Finding(
            verdict="flagged",
            reason="stale",
            at=_midnight(newest),
            source=NAME,
            values={"newest": newest.isoformat(), "noticed_at": now.isoformat()},
        )
        known = series.findings.filter(reason=finding.reason, at=finding.at)
        if not known.exists():
            subject = macro_key(series.series_id)
            flagged += record_findings(subject=subject, findings=[finding], macro_series=series)
    return flagged


def _doubt(series: MacroSeries, vintage: Vintage) -> Finding | None:
    """Why the vintage is not stored, None when it is."""
    reason = check_value(series.series_id, vintage.value)
    if reason is None:
        return None
    return Finding(
        verdict="rejected",
        reason=reason,
        at=_midnight(vintage.date),
        source=NAME,
        values={"value": vintage.value, "realtime_start": vintage.realtime_start.isoformat()},
    )


def _note_failure(series: MacroSeries, error: ProviderError, looked_at: datetime) -> None:
    """Remember what went wrong, and until when nobody need ask again."""
    failures = series.consecutive_failures + 1
    MacroSeries.objects.filter(pk=series.pk).update(
        last_error=str(error)[:300],
        consecutive_failures=F("consecutive_failures") + 1,
        retry_at=_retry_at(error, failures, looked_at),
    )


def _retry_at(error: ProviderError, failures: int, now: datetime) -> datetime | None:
    if isinstance(error, KeyMissing):
        return None  # costs no call, and ends as soon as there is a key
    if isinstance(error, UnknownSymbol):
        return next_release(now)
    if isinstance(error, PermanentError):
        return now + LONGEST_PAUSE
    return now + min(FIRST_PAUSE * (1 << min(failures - 1, 10)), LONGEST_PAUSE)


def _clock_start() -> datetime:
    start: datetime = settings.ENV.clock_start or clock.now()
    return start


def _known_values(series: MacroSeries, since: date) -> dict[date, float]:
    """The newest stored value of each observation."""
    rows = series.observations.filter(date__gte=since).order_by("date", "realtime_start")
    return dict(rows.values_list("date", "value"))


@transaction.atomic
def _store(series: MacroSeries, vintages: list[Vintage], looked_at: datetime) -> int:
    received_at = clock.wall_now()
    was_current = not selectors.macro_is_current(series_ids=[series.series_id], moment=looked_at)
    stored = store_observations(
        series=series,
        observations=[
            MacroObservation(
                date=vintage.date,
                value=vintage.value,
                realtime_start=vintage.realtime_start,
                released_at=vintage.released_at,
                is_release_assumed=vintage.is_release_assumed,
                received_at=received_at,
            )
            for vintage in _restated(series, vintages, looked_at)
        ],
    )
    MacroSeries.objects.filter(pk=series.pk).update(
        last_success_at=looked_at, last_error="", consecutive_failures=0, retry_at=None
    )
    # Who waits for a release must hear of the look that found none, too.
    if not stored and not was_current:
        _announce(series)
    return stored


@transaction.atomic
def store_observations(*, series: MacroSeries, observations: Sequence[MacroObservation]) -> int:
    """Store the vintages that are not there yet, whoever they come from; gives how many were new.

    `observations` are new rows, of which only the series is not set. One that exists stays as it
    is. The series' revision is raised in the transaction, and `macro_stored` follows it.
    """
    row = lock_series(macro_key(series.series_id))
    before = series.observations.count()
    for observation in observations:
        observation.series = series
    MacroObservation.objects.bulk_create(observations, ignore_conflicts=True)
    stored = series.observations.count() - before
    if stored:
        Series.objects.filter(pk=row.pk).update(revision=F("revision") + 1)
        _announce(series)
    return stored


def _announce(series: MacroSeries) -> None:
    announcement = partial(
        events.macro_stored.send_robust, sender=MacroObservation, series_ids=[series.series_id]
    )
    transaction.on_commit(announcement, robust=True)


def _restated(series: MacroSeries, vintages: list[Vintage], looked_at: datetime) -> list[Vintage]:
    """The vintages; what now says something else under a day that is stored already counts as
    published today, as somebody may have acted on what was said before."""
    known = series.observations.filter(date__in=[vintage.date for vintage in vintages])
    stored = set(known.values_list("date", "realtime_start"))
    today = day_in_chicago(looked_at)
    released_at = midnight_in_chicago(today + timedelta(days=1))
    return [
        dataclasses.replace(
            vintage, realtime_start=today, released_at=released_at, is_release_assumed=True
        )
        if (vintage.date, vintage.realtime_start) in stored
        else vintage
        for vintage in vintages
    ]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
