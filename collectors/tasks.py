"""What the collect queue does. Each task looks in the tables for what is due."""

from __future__ import annotations

import structlog
from celery import shared_task

from collectors import clock, services
from collectors.exchange import PermanentError, ProviderError
from collectors.models import Instrument, MacroSeries
from collectors.selectors import enabled_instruments, macro_is_current, redis_client

log = structlog.get_logger(__name__)

TICK_LOCK_MS = 15_000


@shared_task  # type: ignore[untyped-decorator]
def collect_tier(tier: str) -> int:
    """Cover every series of a tier; gives the number of new candles.

    A tick that comes while the one before still works is dropped: there is nothing it would do.
    """
    key = f"collecting:{tier}"
    client = redis_client()
    if not client.set(key, "1", nx=True, px=TICK_LOCK_MS):
        return 0
    try:
        return sum(
            _cover(instrument, timeframe)
            for instrument in enabled_instruments(tier=tier)
            for timeframe in instrument.timeframes
        )
    finally:
        client.delete(key)


@shared_task  # type: ignore[untyped-decorator]
def backfill_all() -> None:
    """Cover every series, each in a task of its own, hourly candles first; and the macro series."""
    collect_macro_series.delay()
    instruments = enabled_instruments()
    for timeframe in ("1h", "15m"):
        for instrument in instruments:
            if timeframe in instrument.timeframes:
                cover_series.delay(instrument.coin_id, timeframe)


@shared_task  # type: ignore[untyped-decorator]
def cover_series(coin_id: str, timeframe: str) -> int:
    """Cover one series; gives the number of new candles."""
    return _cover(Instrument.objects.get(coin_id=coin_id), timeframe)


@shared_task  # type: ignore[untyped-decorator]
def collect_macro_series() -> int:
    """Collect the enabled macro series that are not current; gives the number of new vintages.

    Values become usable once a day, so that however often this runs, a series is asked for once a
    day, and again only after a failure.
    """
    enabled = MacroSeries.objects.filter(is_enabled=True).values_list("series_id", flat=True)
    stored = 0
    for series_id in macro_is_current(series_ids=list(enabled), moment=clock.now()):
        try:
            stored += services.collect_macro(series_id=series_id)
        except ProviderError as error:
            log.warning(
                "macro_not_collected",
                series=series_id,
                permanent=isinstance(error, PermanentError),
                problem=str(error),
            )
    return stored


@shared_task  # type: ignore[untyped-decorator]
def flush_provider_calls() -> int:
    """Move the counted provider calls to the table."""
    return services.flush_provider_calls()


def _cover(instrument: Instrument, timeframe: str) -> int:
    """Cover one series; a failure is logged and does not stop the others."""
    try:
        coverage = services.ensure_coverage(
            instrument=instrument, timeframe=timeframe, until=clock.now()
        )
    except Exception:
        log.exception("coverage_failed", instrument=instrument.coin_id, timeframe=timeframe)
        return 0
    return coverage.stored
