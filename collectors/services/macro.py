"""How macro releases are collected: every vintage once, usable from its release."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import F, Max

from collectors import clock, events, selectors
from collectors.fred import Vintage
from collectors.marketdata import macro_key
from collectors.models import MacroObservation, MacroSeries, Series
from collectors.services.candles import lock_series
from collectors.services.providers import fred

HISTORY_DEPTH = timedelta(days=400)
# Revisions come within weeks; older observations are not asked for again.
REVISION_SPAN = timedelta(days=90)


def collect_macro(*, series_id: str) -> int:
    """Store the vintages that are new since the last collection; gives how many. The answered look
    is recorded, whatever it brought.

    Raises MacroSeries.DoesNotExist, and ProviderError when FRED gives no answer.
    """
    series = MacroSeries.objects.get(series_id=series_id)
    newest = series.observations.aggregate(newest=Max("realtime_start"))["newest"]
    if newest is None:
        observed_from = published_from = (_clock_start() - HISTORY_DEPTH).date()
    else:
        observed_from, published_from = newest - REVISION_SPAN, newest
    looked_at = clock.now()
    vintages = fred().fetch_vintages(
        series_id,
        observed_from=observed_from,
        published_from=published_from,
        today=looked_at.date(),
        known=_known_values(series, observed_from),
    )
    return _store(series, vintages, looked_at)


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
            for vintage in vintages
        ],
    )
    MacroSeries.objects.filter(pk=series.pk).update(last_success_at=looked_at)
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
