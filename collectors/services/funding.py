"""Funding settlements by gap repair: what the table lacks up to now, once each, at each
instrument's own interval.

An interval is learned from the exchange's own settlements: the next is due an interval after the
last. Whatever settles in between, because the interval became shorter, is found then. What the
stream has seen is there already; the exchange's history is asked about it now and then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import redis
import structlog
from django.conf import settings

from collectors import clock
from collectors.exchange import ProviderError, RequestRefused, UnknownSymbol
from collectors.selectors.live import redis_client
from collectors.services.coverage import default_history_start
from collectors.services.funding_gaps import (
    MINUTE,
    Gap,
    confirmations,
    due_gaps,
    followed_symbols,
    holes,
    recent_holes,
)
from collectors.services.funding_keys import publish_history, streamed_symbols
from collectors.services.funding_rows import StoredHistory, store_history
from collectors.services.providers import funding_source
from collectors.sources import FUNDING_VENUES
from collectors.venues import EverybodysFunding, Settlement

log = structlog.get_logger(__name__)

# Shorter gaps are closed for all symbols together, where the exchange has such a call.
TOGETHER = timedelta(days=2)
LOCK_MS = 15_000  # who dies with it holds the others up no longer


@dataclass
class FundingCoverage:
    """What one look stored and corrected. `is_busy`: somebody else is asking an exchange right
    now."""

    stored: int = 0
    corrected: int = 0
    errors: list[str] = field(default_factory=list)
    is_busy: bool = False


def ensure_funding(*, until: datetime | None = None, repair: bool = False) -> FundingCoverage:
    """Store the settlements that are due at `until` (default: now, market time) of every
    collected instrument, from every exchange that its chain names and the settings allow.

    Costs no call when nothing is due; a settlement that the exchange does not show yet is asked
    for again after a quarter of the time it is late. What the stream has not seen between two that
    it has is asked for at once; what it has seen is confirmed or corrected by the exchange's
    history, once a day or a week. `repair` also closes all holes between stored settlements.
    Writes `funding:{exchange}:{symbol}` where no stream does. Provider errors are in the result.
    """
    at = until or clock.now()
    result = FundingCoverage()
    for exchange in FUNDING_VENUES:
        if exchange in settings.CANDLE_SOURCES:
            _cover(exchange, at, repair, result)
    return result


def _cover(exchange: str, at: datetime, repair: bool, result: FundingCoverage) -> None:
    followed = followed_symbols(exchange, at)
    streamed = streamed_symbols(exchange, [symbol for _, symbol in followed], at=at)
    begin = default_history_start()
    gaps = (holes if repair else recent_holes)(exchange, followed, begin=begin, at=at)
    # What reaches to the present is asked for once.
    present = {gap.symbol for gap in gaps if gap.until == at}
    due = due_gaps(exchange, followed, streamed=streamed, begin=begin, at=at)
    gaps += [gap for gap in due if gap.symbol not in present]
    is_together = isinstance(funding_source(exchange), EverybodysFunding)
    asked: set[str] = set() if is_together else {gap.symbol for gap in gaps}
    seen = confirmations(exchange, followed, is_together=is_together, at=at)
    gaps += [gap for gap in seen if gap.symbol not in asked]
    if not repair:
        gaps = _without_waiting(exchange, gaps, at)
    if not gaps:
        return
    if not _take_lock(exchange):
        result.is_busy = True
        return
    try:
        tried, settled = _ask(exchange, gaps, result)
        stored = _store(exchange, gaps, settled)
        result.stored += sum(item.new for item in stored.values())
        result.corrected += sum(item.corrected for item in stored.values())
        _wait_for_late(exchange, [gap for gap in tried if gap.symbol not in stored], at)
        new = {symbol for symbol, item in stored.items() if item.new}
        publish_history(exchange, new - streamed, at=at)
    finally:
        _release_lock(exchange)


# -- Asking and keeping ------------------------------------------------------------------------


def _ask(
    exchange: str, gaps: Sequence[Gap], result: FundingCoverage
) -> tuple[list[Gap], list[Settlement]]:
    """The gaps that were asked for, and what has settled in them.

    What an exchange refuses of one symbol stops no other; what may pass ends the look, and is no
    reason to wait. Errors are in the result.
    """
    source = funding_source(exchange)
    asked: list[Gap] = []
    settled: list[Settlement] = []
    young = [gap for gap in gaps if gap.until - gap.since <= TOGETHER]
    try:
        if len(young) > 1 and isinstance(source, EverybodysFunding):
            since, until = min(gap.since for gap in young), max(gap.until for gap in young)
            settled += source.fetch_all_settlements(since, until)
            asked += young
            gaps = [gap for gap in gaps if gap.until - gap.since > TOGETHER]
        for gap in gaps:
            try:
                settled += source.fetch_settlements(gap.symbol, gap.since, gap.until)
            except (UnknownSymbol, RequestRefused) as error:
                _note_failure(exchange, f"{gap.symbol}: {error}", result)
            asked.append(gap)
    except ProviderError as error:
        _note_failure(exchange, str(error), result)
    return asked, settled


def _note_failure(exchange: str, error: str, result: FundingCoverage) -> None:
    problem = f"{exchange} funding: {error}"
    log.warning("funding_failed", exchange=exchange, problem=problem)
    result.errors.append(problem)


def _store(
    exchange: str, gaps: Sequence[Gap], settled: Iterable[Settlement]
) -> dict[str, StoredHistory]:
    """Store what was found; gives by symbol what that changed, without those that it did not."""
    by_symbol: dict[str, list[Settlement]] = {}
    for settlement in settled:
        by_symbol.setdefault(settlement.symbol, []).append(settlement)
    stored: dict[str, StoredHistory] = {}
    for gap in gaps:
        found = {
            item.funding_time: item
            for item in by_symbol.get(gap.symbol, ())
            if gap.since <= item.funding_time < gap.until
        }
        change = store_history(
            instrument=gap.instrument,
            exchange=exchange,
            since=gap.since,
            found=[found[moment] for moment in sorted(found)],
        )
        if any(change):
            before = stored.get(gap.symbol, StoredHistory(0, 0, 0))
            stored[gap.symbol] = before.plus(change)
    return stored


# -- Not twice, and not in vain ----------------------------------------------------------------


def _take_lock(exchange: str) -> bool:
    """Two ticks at once would ask twice; without Redis they may."""
    try:
        return bool(redis_client().set(f"funding_asking:{exchange}", "1", nx=True, px=LOCK_MS))
    except redis.RedisError:
        return True


def _release_lock(exchange: str) -> None:
    try:
        redis_client().delete(f"funding_asking:{exchange}")
    except redis.RedisError as error:
        log.info("funding_lock_kept", exchange=exchange, problem=str(error))


def _without_waiting(exchange: str, gaps: Sequence[Gap], at: datetime) -> list[Gap]:
    """The gaps but for those that an exchange was asked about in vain a moment ago."""
    if not gaps:
        return []
    try:
        raw = redis_client().hgetall(f"funding_late:{exchange}")
    except redis.RedisError:
        return list(gaps)
    late = {
        name.decode(): datetime.fromisoformat(text.decode())
        for name, text in raw.items()  # type: ignore[union-attr]
    }
    return [gap for gap in gaps if gap.symbol not in late or late[gap.symbol] <= at]


def _wait_for_late(exchange: str, late: Sequence[Gap], at: datetime) -> None:
    if not late:
        return
    again = {gap.symbol: (at + max((at - gap.due_at) / 4, MINUTE)).isoformat() for gap in late}
    try:
        redis_client().hset(f"funding_late:{exchange}", mapping=again)
    except redis.RedisError as error:
        log.info("late_funding_not_noted", exchange=exchange, problem=str(error))
