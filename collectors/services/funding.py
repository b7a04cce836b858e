"""Funding settlements by gap repair: what the table lacks up to now, once each, at each
instrument's own interval.

An interval is learned from the exchange's own settlements: the next is due an interval after the
last. Whatever settles in between, because the interval became shorter, is found then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec
import redis
import structlog
from django.conf import settings
from django.db.models import Max, Q

from collectors import clock, selectors
from collectors.exchange import ProviderError, RequestRefused, UnknownSymbol
from collectors.models import FundingRate, Instrument
from collectors.selectors.live import redis_client
from collectors.services.candles import source_chain
from collectors.services.coverage import default_history_start
from collectors.services.funding_rows import store_history
from collectors.services.providers import funding_source
from collectors.sources import FUNDING_VENUES
from collectors.venues import EverybodysFunding, FundingOutlook, Settlement

log = structlog.get_logger(__name__)

USUAL_INTERVAL = timedelta(hours=8)
# A venue publishes a settlement some seconds after it (market time).
SETTLING = timedelta(seconds=30)
MINUTE = timedelta(minutes=1)
# Younger gaps are closed for all symbols by one call, where the exchange has such a call.
TOGETHER = timedelta(hours=12)
KEY_TTL_S = 24 * 3600
LOCK_MS = 15_000  # who dies with it holds the others up no longer


@dataclass
class FundingCoverage:
    """What one look stored. `is_busy`: somebody else is asking an exchange right now."""

    stored: int = 0
    errors: list[str] = field(default_factory=list)
    is_busy: bool = False


@dataclass(frozen=True)
class Gap:
    """Settlements of one symbol that the table lacks: since <= funding_time < until. `due_at` is
    when the first of them should have been there."""

    instrument: Instrument
    symbol: str
    since: datetime
    until: datetime
    due_at: datetime


def ensure_funding(*, until: datetime | None = None, repair: bool = False) -> FundingCoverage:
    """Store the settlements that are due at `until` (default: now, market time) of every
    collected instrument, from every exchange that its chain names and the settings allow.

    Costs no call when nothing is due; a settlement that the exchange does not show yet is asked
    for again after a quarter of the time it is late. `repair` also closes holes between stored
    settlements. Writes `funding:{exchange}:{symbol}`. Provider errors are in the result.
    """
    at = until or clock.now()
    result = FundingCoverage()
    for exchange in FUNDING_VENUES:
        if exchange in settings.CANDLE_SOURCES:
            _cover(exchange, at, repair, result)
    return result


def funding_key(exchange: str, symbol: str) -> str:
    """The Redis key of a symbol's newest and coming funding rate."""
    return f"funding:{exchange}:{symbol}"


def _cover(exchange: str, at: datetime, repair: bool, result: FundingCoverage) -> None:
    gaps = _gaps(exchange, at, repair)
    if not repair:
        gaps = _without_waiting(exchange, gaps, at)
    if not gaps:
        return
    if not _take_lock(exchange):
        result.is_busy = True
        return
    try:
        asked, settled = _ask(exchange, gaps, result)
        stored = _store(exchange, gaps, settled)
        result.stored += sum(stored.values())
        _wait_for_late(exchange, [gap for gap in asked if not stored.get(gap.symbol)], at)
        if stored:
            _publish(exchange, {gap.symbol for gap in gaps}, at)
    finally:
        _release_lock(exchange)


# -- What is lacking ---------------------------------------------------------------------------


def _gaps(exchange: str, at: datetime, repair: bool) -> list[Gap]:
    begin = default_history_start()
    newest = _newest(exchange)
    gaps: list[Gap] = []
    for instrument in selectors.enabled_instruments():
        if exchange not in source_chain(instrument):
            continue
        listing = selectors.listing_for(instrument=instrument, exchange=exchange, at=at)
        if listing is None:
            continue
        if repair:
            gaps += _holes(exchange, instrument, listing.symbol, begin)
        last = newest.get(instrument.pk)
        if last is None:
            gaps.append(Gap(instrument, listing.symbol, begin, at, begin))
            continue
        due_at = last.funding_time + _interval(last)
        if due_at + SETTLING <= at:
            since = last.funding_time + MINUTE
            gaps.append(Gap(instrument, listing.symbol, since, at, due_at))
    return gaps


def _newest(exchange: str) -> dict[int, FundingRate]:
    rates = FundingRate.objects.filter(exchange=exchange)
    ends = rates.order_by().values("instrument").annotate(end=Max("funding_time"))
    wanted = Q(pk__in=[])
    for row in ends:
        wanted |= Q(instrument=row["instrument"], funding_time=row["end"])
    return {rate.instrument_id: rate for rate in rates.filter(wanted)}


def _holes(exchange: str, instrument: Instrument, symbol: str, begin: datetime) -> list[Gap]:
    """What lies between a settlement and the one before it in the table, where that one is not
    the one it followed."""
    rates = FundingRate.objects.filter(
        instrument=instrument, exchange=exchange, funding_time__gte=begin
    )
    before = begin - MINUTE
    gaps: list[Gap] = []
    for rate in rates.order_by("funding_time"):
        interval = rate.interval_hours
        if interval and before + MINUTE <= rate.funding_time - timedelta(hours=interval):
            since = before + MINUTE
            gaps.append(Gap(instrument, symbol, since, rate.funding_time, since))
        before = rate.funding_time
    return gaps


def _interval(rate: FundingRate) -> timedelta:
    return timedelta(hours=rate.interval_hours) if rate.interval_hours else USUAL_INTERVAL


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


def _store(exchange: str, gaps: Sequence[Gap], settled: Iterable[Settlement]) -> dict[str, int]:
    """Store what is new; gives by symbol how many that were."""
    by_symbol: dict[str, list[Settlement]] = {}
    for settlement in settled:
        by_symbol.setdefault(settlement.symbol, []).append(settlement)
    stored: dict[str, int] = {}
    for gap in gaps:
        found = {
            item.funding_time: item
            for item in by_symbol.get(gap.symbol, ())
            if gap.since <= item.funding_time < gap.until
        }
        if found:
            new = store_history(
                instrument=gap.instrument,
                exchange=exchange,
                found=[found[moment] for moment in sorted(found)],
            )
            stored[gap.symbol] = stored.get(gap.symbol, 0) + new
    return {symbol: count for symbol, count in stored.items() if count}


# -- What Redis holds --------------------------------------------------------------------------


def _publish(exchange: str, symbols: set[str], at: datetime) -> None:
    """Write the key of each symbol; what the next settlement looks like is left out when the
    exchange does not say."""
    outlooks: dict[str, FundingOutlook] = {}
    try:
        outlooks = {item.symbol: item for item in funding_source(exchange).fetch_outlooks()}
    except ProviderError as error:
        log.warning("outlooks_failed", exchange=exchange, problem=str(error))
    newest = {rate.symbol: rate for rate in _newest(exchange).values()}
    try:
        with redis_client().pipeline(transaction=False) as pipeline:
            for symbol in sorted(symbols & set(newest)):
                rate, outlook = newest[symbol], outlooks.get(symbol)
                said = {
                    "exchange": exchange,
                    "symbol": symbol,
                    "funding_time": rate.funding_time,
                    "rate": rate.rate,
                    "predicted_rate": outlook.rate if outlook else None,
                    "next_funding_time": outlook.next_funding_time if outlook else None,
                    "mark_price": outlook.mark_price if outlook else rate.mark_price,
                    "at": at,
                }
                value = msgspec.json.encode(said)
                pipeline.set(funding_key(exchange, symbol), value, ex=KEY_TTL_S)
            pipeline.execute()
    except redis.RedisError as error:
        log.warning("funding_keys_not_written", exchange=exchange, problem=str(error))


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
