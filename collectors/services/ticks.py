"""What a tick of a tier does: it finds the series that lack something in one look at all of them,
has those covered, and records how every series stands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import redis
import structlog

from collectors import clock, selectors
from collectors.marketdata import duration, floor_time
from collectors.models import CollectionState, Instrument
from collectors.selectors import redis_client
from collectors.services.coverage import ensure_coverage, settling
from collectors.services.search import Coverage

log = structlog.get_logger(__name__)

SeriesList = Sequence[tuple[Instrument, str]]
STATUS_TTL_S = 300
# A candle is asked for a minute after its close.
TICK_AFTER_CLOSE = timedelta(minutes=1)


def cover_tier(
    *, tier: str, on_series: Callable[[Coverage], None] = lambda coverage: None
) -> list[Coverage]:
    """Cover every series of a tier; the results are those of the series that lacked something.

    Series whose newest day is there cost one look for all of them. What older bars lack is the
    repair run's, unless the last collection failed or left a hole pending. One series' failure is
    logged and does not stop the others. `on_series` is told each result as it comes.
    """
    now = clock.now()
    series = [
        (instrument, timeframe)
        for instrument in selectors.enabled_instruments(tier=tier)
        for timeframe in instrument.timeframes
    ]
    lacking = selectors.series_that_lack(series=series, until=now - settling())
    results = cover_all(lacking, on_series)
    # Those that were asked for, or could not be, have said themselves how it went.
    well = {(item.coin_id, item.timeframe) for item in results if _is_well(item)}
    asked = {(item.coin_id, timeframe) for item, timeframe in lacking} - well
    _record_due(series, asked, now)
    _publish_status(tier, series, now)
    return results


def cover_all(
    series: SeriesList,
    on_series: Callable[[Coverage], None] = lambda coverage: None,
    *,
    retry_worse: bool = False,
) -> list[Coverage]:
    """Cover one series after the other; a failure is logged and does not stop the others.

    With `retry_worse` better sources are asked for recent candles of worse ones.
    """
    results: list[Coverage] = []
    for instrument, timeframe in series:
        try:
            coverage = ensure_coverage(
                instrument=instrument,
                timeframe=timeframe,
                until=clock.now(),
                retry_worse=retry_worse,
            )
        except Exception:
            log.exception("coverage_failed", instrument=instrument.coin_id, timeframe=timeframe)
            continue
        results.append(coverage)
        on_series(coverage)
    return results


def next_due(timeframe: str, at: datetime) -> datetime:
    """When the bar that forms at `at` will be asked for (market time)."""
    return floor_time(at, timeframe) + duration(timeframe) + TICK_AFTER_CLOSE


def _is_well(coverage: Coverage) -> bool:
    return coverage.is_complete and not coverage.requests


def _record_due(series: SeriesList, asked: set[tuple[str, str]], now: datetime) -> None:
    """Say of every series when it is due next, and of those that lacked nothing that they are
    well: the stream brought what was due."""
    states = CollectionState.objects.filter(instrument__in={item.pk for item, _ in series})
    known = set(states.values_list("instrument_id", "timeframe"))
    CollectionState.objects.bulk_create(
        [
            CollectionState(instrument=instrument, timeframe=timeframe)
            for instrument, timeframe in series
            if (instrument.pk, timeframe) not in known
        ],
        ignore_conflicts=True,
    )
    for timeframe in {timeframe for _, timeframe in series}:
        mine = states.filter(timeframe=timeframe)
        mine.update(next_due_at=next_due(timeframe, now))
        well = [
            item.pk
            for item, frame in series
            if frame == timeframe and (item.coin_id, frame) not in asked
        ]
        mine.filter(instrument__in=well).update(
            last_success_at=now, consecutive_failures=0, last_error=""
        )


def _publish_status(tier: str, series: SeriesList, now: datetime) -> None:
    """Write `scheduler_status:{tier}:{asset}` for live readers; a lost write is soon replaced."""
    states = CollectionState.objects.filter(
        instrument__in={item.pk for item, _ in series}
    ).select_related("instrument")
    statuses: dict[str, dict[str, object]] = {}
    for state in states:
        statuses.setdefault(state.instrument.coin_id, {})[state.timeframe] = {
            "last_success_at": _iso(state.last_success_at),
            "next_due_at": _iso(state.next_due_at),
            "consecutive_failures": state.consecutive_failures,
            "success_rate": state.success_rate,
            "response_ms": state.response_ms,
            "last_error": state.last_error,
        }
    try:
        with redis_client().pipeline(transaction=False) as pipe:
            for coin_id, timeframes in statuses.items():
                status = {"at": _iso(now), "tier": tier, "timeframes": timeframes}
                pipe.set(f"scheduler_status:{tier}:{coin_id}", json.dumps(status), ex=STATUS_TTL_S)
            pipe.execute()
    except redis.RedisError as error:
        log.warning("tier_status_not_published", tier=tier, problem=str(error))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
