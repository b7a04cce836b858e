"""How candles are stored: checked, once, the better source first, with a revision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F

from collectors import clock, events
from collectors.marketdata import Candle, candle_key
from collectors.models import CandleHole, CandleReplacement, Instrument, Ohlcv, Series
from collectors.quality import sift_candles
from collectors.services.holes import relabel_holes

log = structlog.get_logger(__name__)

VALUES = ("open", "high", "low", "close", "volume")
# A write that is known to change nothing should not even open a transaction; for long batches
# looking twice would cost more than it saves.
LOOK_FIRST_LIMIT = 50


@dataclass
class StoreResult:
    """How many candles were new, replaced another, changed nothing, or were impossible."""

    inserted: int = 0
    replaced: int = 0
    unchanged: int = 0
    rejected: int = 0


@dataclass
class _Plan:
    """What one series' batch changes."""

    new: list[Candle]
    better: list[tuple[Ohlcv, Candle, str]]
    unchanged: int


def source_chain(instrument: Instrument) -> list[str]:
    """The instrument's candle sources that the settings allow, best first."""
    return [name for name in instrument.source_chain if name in settings.CANDLE_SOURCES]


def store_candles(
    *, instrument: Instrument, timeframe: str, candles: Iterable[Candle]
) -> StoreResult:
    """Store the candles of one series. See `store_market`."""
    return store_market(timeframe=timeframe, candles={instrument: list(candles)})


def store_market(
    *,
    timeframe: str,
    candles: Mapping[Instrument, Sequence[Candle]],
    expect_new: bool = False,
) -> StoreResult:
    """Store closed candles of several instruments in one transaction.

    A candle that exists is replaced by a better source of the instrument's chain, or by a later
    correction of its own source, and the replacement is recorded; never by a worse source.
    Impossible candles are counted, logged with a sample, and not stored. The revision of every
    changed series is raised in the transaction, and `candles_stored` follows it. A caller that
    does not `expect_new` candles saves the transaction when nothing changes.
    """
    result = StoreResult()
    batches: dict[Instrument, list[Candle]] = {}
    for instrument in sorted(candles, key=lambda item: item.coin_id):
        possible, rejected = possible_candles(instrument, timeframe, candles[instrument])
        result.rejected += rejected
        if possible and (expect_new or _may_change(instrument, timeframe, possible, result)):
            batches[instrument] = possible
    if not batches:
        return result
    with transaction.atomic():
        changed = [
            instrument.coin_id
            for instrument, batch in batches.items()
            if _store_series(instrument, timeframe, batch, result)
        ]
        _close_holes(timeframe, batches)
        if changed:
            announcement = partial(
                events.candles_stored.send_robust,
                sender=Ohlcv,
                coin_ids=changed,
                timeframe=timeframe,
            )
            transaction.on_commit(announcement, robust=True)
    return result


def possible_candles(
    instrument: Instrument, timeframe: str, candles: Iterable[Candle]
) -> tuple[list[Candle], int]:
    """The candles that can be true, and how many cannot; those are logged with a sample."""
    possible, impossible = sift_candles(candles, timeframe=timeframe, now=clock.now())
    if impossible:
        candle, reason = impossible[0]
        log.warning(
            "candles_rejected",
            instrument=instrument.coin_id,
            timeframe=timeframe,
            count=len(impossible),
            reason=reason,
            sample=str(candle),
        )
    return possible, len(impossible)


def _may_change(
    instrument: Instrument, timeframe: str, batch: Sequence[Candle], result: StoreResult
) -> bool:
    if len(batch) > LOOK_FIRST_LIMIT:
        return True
    plan = _plan(instrument, timeframe, batch)
    if plan.new or plan.better:
        return True
    result.unchanged += plan.unchanged
    return False


def _store_series(
    instrument: Instrument, timeframe: str, batch: Sequence[Candle], result: StoreResult
) -> bool:
    """Store one series' candles; True when a row changed. The series' row is the lock."""
    series = lock_series(candle_key(instrument.coin_id, timeframe))
    plan = _plan(instrument, timeframe, batch)
    result.inserted += len(plan.new)
    result.replaced += len(plan.better)
    result.unchanged += plan.unchanged
    if not plan.new and not plan.better:
        return False
    received_at = clock.wall_now()
    Ohlcv.objects.bulk_create(
        [_row(instrument, timeframe, candle, received_at) for candle in plan.new],
        batch_size=2000,
    )
    _replace(plan.better, received_at)
    Series.objects.filter(pk=series.pk).update(revision=F("revision") + 1)
    return True


def _close_holes(timeframe: str, batches: Mapping[Instrument, Sequence[Candle]]) -> None:
    """Take the stored bars out of the holes they were in."""
    times = [candle.open_time for batch in batches.values() for candle in batch]
    holes = CandleHole.objects.filter(
        instrument__in=batches, timeframe=timeframe, start__lte=max(times), end__gte=min(times)
    )
    affected = set(holes.order_by().values_list("instrument_id", flat=True))
    for instrument, batch in batches.items():
        if instrument.pk in affected:
            filled = [candle.open_time for candle in batch]
            relabel_holes(instrument=instrument, timeframe=timeframe, filled=filled, labels={})


def lock_series(key: str) -> Series:
    """The series' row, locked until the end of the transaction."""
    locked = Series.objects.select_for_update()
    series = locked.filter(key=key).first()
    if series is None:
        Series.objects.get_or_create(key=key)
        series = locked.get(key=key)
    return series


def _plan(instrument: Instrument, timeframe: str, batch: Sequence[Candle]) -> _Plan:
    unique = {candle.open_time: candle for candle in batch}
    rows = Ohlcv.objects.filter(
        instrument=instrument,
        timeframe=timeframe,
        open_time__gte=min(unique),
        open_time__lte=max(unique),
    ).order_by()
    existing = {row.open_time: row for row in rows}
    plan = _Plan([], [], 0)
    chain = source_chain(instrument)
    for open_time, candle in unique.items():
        row = existing.get(open_time)
        if row is None:
            plan.new.append(candle)
            continue
        reason = _reason_to_replace(row, candle, chain)
        if reason:
            plan.better.append((row, candle, reason))
        else:
            plan.unchanged += 1
    return plan


def _reason_to_replace(row: Ohlcv, candle: Candle, chain: Sequence[str]) -> str:
    """Why the candle replaces the row; empty when it does not."""
    if _rank(candle.source, chain) < _rank(row.source, chain):
        return "better source"
    if candle.source != row.source or _is_older(candle, row):
        return ""
    differs = any(getattr(row, name) != getattr(candle, name) for name in VALUES)
    return "correction" if differs else ""


def _is_older(candle: Candle, row: Ohlcv) -> bool:
    """Whether the candle was received, long ago, before the row was: no correction of it."""
    return candle.received_at is not None and candle.received_at < row.received_at


def _rank(source: str, chain: Sequence[str]) -> int:
    return chain.index(source) if source in chain else len(chain)


def _row(instrument: Instrument, timeframe: str, candle: Candle, received_at: datetime) -> Ohlcv:
    return Ohlcv(
        instrument=instrument,
        timeframe=timeframe,
        open_time=candle.open_time,
        open=candle.open,
        high=candle.high,
        low=candle.low,
        close=candle.close,
        volume=candle.volume,
        source=candle.source,
        is_sampled=candle.is_sampled,
        received_at=candle.received_at or received_at,
    )


def _replace(better: Sequence[tuple[Ohlcv, Candle, str]], received_at: datetime) -> None:
    if not better:
        return
    CandleReplacement.objects.bulk_create(
        CandleReplacement(
            candle=row,
            old_values={name: getattr(row, name) for name in VALUES},
            old_source=row.source,
            new_source=candle.source,
            reason=reason,
            replaced_at=received_at,
        )
        for row, candle, reason in better
    )
    for row, candle, _ in better:
        for name in (*VALUES, "source", "is_sampled"):
            setattr(row, name, getattr(candle, name))
        row.received_at = candle.received_at or received_at
    fields = [*VALUES, "source", "is_sampled", "received_at"]
    Ohlcv.objects.bulk_update([row for row, _, _ in better], fields, batch_size=500)
