"""What the collect queue does. Each task looks in the tables for what is due."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import structlog
from celery import shared_task

from collectors import clock, services
from collectors.exchange import PermanentError, ProviderError
from collectors.selectors import due_macro_series, enabled_instruments, redis_client

log = structlog.get_logger(__name__)

TICK_LOCK_MS = 15_000


@shared_task  # type: ignore[untyped-decorator]
def collect_tier(tier: str) -> int:
    """Cover every series of a tier; gives the number of new candles.

    A tick that comes while the one before still works is dropped: there is nothing it would do.
    """
    with _alone(tier) as is_alone:
        if not is_alone:
            return 0
        return sum(coverage.stored for coverage in services.cover_tier(tier=tier))


@shared_task  # type: ignore[untyped-decorator]
def poll_samples() -> int:
    """Take one sample of every coin that CoinGecko serves first; gives how many were new."""
    with _alone("samples") as is_alone:
        return _unless_refused(services.poll_samples) if is_alone else 0


@shared_task  # type: ignore[untyped-decorator]
def sample_books() -> int:
    """Store the newest quote of every streamed book; gives how many were new."""
    with _alone("books") as is_alone:
        return services.sample_books() if is_alone else 0


@shared_task  # type: ignore[untyped-decorator]
def refine_samples() -> int:
    """Take the last day's samples of every coin that CoinGecko serves first; gives how many were
    new."""
    with _alone("refinement") as is_alone:
        return _unless_refused(services.refine_samples) if is_alone else 0


@shared_task  # type: ignore[untyped-decorator]
def backfill_all() -> int:
    """Cover the macro series, every enabled series and the funding settlements; gives the number
    of new candles.

    What strategies read comes first, and of that the hourly candles. It may run at any time, also
    beside itself and beside the tiers' ticks: a series that somebody else is asking for is left
    to them, and one that lacks nothing costs no call. Recent candles of a worse source are asked
    for at the better ones.
    """
    started = time.monotonic()
    # The registry's first series is what most strategies read; the others can wait for candles.
    vintages = collect_macro_series(most=1)
    series = [
        (instrument, timeframe)
        for instrument in enabled_instruments()
        for timeframe in instrument.timeframes
    ]
    series.sort(key=lambda item: (not item[0].is_strategy_enabled, item[1] != "1h"))
    results = services.cover_all(series, retry_worse=True)
    vintages += collect_macro_series()
    settlements = collect_funding(repair=True)
    log.info(
        "backfill_done",
        series=len(series),
        candles=sum(item.stored for item in results),
        replaced=sum(item.replaced for item in results),
        vintages=vintages,
        settlements=settlements,
        requests=sum(item.requests for item in results),
        complete=sum(item.is_complete for item in results),
        left_to_others=sum(item.is_busy for item in results),
        with_errors=sum(bool(item.errors) for item in results) + len(series) - len(results),
        seconds=round(time.monotonic() - started, 1),
    )
    return sum(item.stored for item in results)


@shared_task  # type: ignore[untyped-decorator]
def collect_funding(repair: bool = False) -> int:
    """Collect the funding settlements that are due, with `repair` also those that were missed
    before; gives how many were new."""
    with _alone("funding") as is_alone:
        return services.ensure_funding(repair=repair).stored if is_alone else 0


@shared_task  # type: ignore[untyped-decorator]
def discover_instruments() -> int:
    """Register the largest coins that are not known yet; gives how many."""
    with _alone("discovery") as is_alone:
        return _unless_refused(lambda: len(services.discover_instruments())) if is_alone else 0


@shared_task  # type: ignore[untyped-decorator]
def refresh_listings() -> int:
    """Follow the exchanges' lists of symbols; gives how many listings were made or changed."""
    with _alone("listings") as is_alone:
        if not is_alone:
            return 0
        refreshed = services.refresh_listings()
        return refreshed.added + refreshed.changed


@shared_task  # type: ignore[untyped-decorator]
def run_backfill(backfill_id: int) -> None:
    """Work off one backfill unless somebody else does, then let the next begin."""
    services.run_backfill(backfill_id=backfill_id)
    sweep_backfills()


@shared_task  # type: ignore[untyped-decorator]
def sweep_backfills() -> None:
    """Offer the backfills that nobody works on, a few at a time."""
    for backfill_id in services.due_backfills():
        run_backfill.delay(backfill_id)


@shared_task  # type: ignore[untyped-decorator]
def collect_macro_series(most: int | None = None) -> int:
    """Collect the enabled macro series that are not current, at most so many; gives the number of
    new vintages.

    Values become usable once a day, so that however often this runs, a series is asked for once a
    day, and again only after a failure. What has no new values for too long is flagged.
    """
    with _alone("macro") as is_alone:
        if not is_alone:
            return 0
        due = due_macro_series(moment=clock.now())[:most]
        stored = sum(_collect_macro(series_id) for series_id in due)
        services.flag_stale_series()
        return stored


@contextlib.contextmanager
def _alone(work: str) -> Iterator[bool]:
    """Whether nobody else does this work now. It only saves calls, so that it may expire early."""
    key = f"collecting:{work}"
    client = redis_client()
    is_alone = bool(client.set(key, "1", nx=True, px=TICK_LOCK_MS))
    try:
        yield is_alone
    finally:
        if is_alone:
            client.delete(key)


def _collect_macro(series_id: str) -> int:
    """Collect one macro series; a failure is logged and does not stop the others."""
    try:
        return services.collect_macro(series_id=series_id)
    except ProviderError as error:
        log.warning(
            "macro_not_collected",
            series=series_id,
            permanent=isinstance(error, PermanentError),
            problem=str(error),
        )
        return 0


def _unless_refused(work: Callable[[], int]) -> int:
    """What the work gives; a provider's failure is logged, and the next tick does the rest."""
    try:
        return work()
    except ProviderError as error:
        log.warning(
            "provider_not_asked", permanent=isinstance(error, PermanentError), problem=str(error)
        )
        return 0
