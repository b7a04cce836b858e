"""How candles are stored: checked, once, the better source first, with a revision."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
from django.conf import settings
from django.db import transaction
from django.db.models import F, OuterRef, Subquery

from collectors import clock, events
from collectors.columns import (
    CandleBatch,
    Flags,
    Integers,
    batch_of,
    from_us,
    in_order,
    possible,
    to_us,
)
from collectors.jumps import jumps
from collectors.marketdata import Candle, candle_key
from collectors.models import CandleHole, Instrument, Ohlcv, Series
from collectors.quality import Finding, check_candle, reject_candle, sift_candles
from collectors.replacement import Plan, StoredRows, plan
from collectors.services.findings import record_findings
from collectors.services.holes import relabel_holes
from collectors.services.livecopies import LiveCandle, publish_newest
from collectors.services.upsert import read_stored, write_changes
from collectors.sources import VENUES

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


@dataclass(frozen=True)
class _Group:
    """Candles of series that span the same bars: what is read and written at once."""

    instruments: list[Instrument]
    batch: CandleBatch  # in order

    @property
    def span(self) -> tuple[datetime, datetime]:
        return from_us(int(self.batch.open_time.min())), from_us(int(self.batch.open_time.max()))


def source_chain(instrument: Instrument) -> list[str]:
    """The instrument's candle sources that the settings allow, best first."""
    return [name for name in instrument.source_chain if name in settings.CANDLE_SOURCES]


def source_ranking(instrument: Instrument) -> list[str]:
    """The sources by what their stored candles are worth, best first, whether or not they may be
    asked now: the instrument's chain, and before the price samples at its end every exchange that
    it does not name. A source that is switched off takes nothing from what it gave."""
    chain = list(dict.fromkeys(instrument.source_chain))
    end = len(chain)
    while end and chain[end - 1] not in VENUES:
        end -= 1
    return [*chain[:end], *(name for name in VENUES if name not in chain), *chain[end:]]


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
    correction of its own source, and the replacement is recorded; never by a worse source. Of
    several candles of one bar the last counts. Impossible candles are counted, recorded as
    findings, and not stored. The revision of every changed series is raised in the transaction,
    and `candles_stored` follows it. A caller that does not `expect_new` candles saves the
    transaction when nothing changes.
    """
    result = StoreResult()
    instruments = sorted(candles, key=lambda item: item.coin_id)
    given = [candles[instrument] for instrument in instruments]
    batch = batch_of(given)
    is_possible = possible(batch, timeframe=timeframe, now=clock.now())
    if not is_possible.all():
        result.rejected = int(np.count_nonzero(~is_possible))
        _record_rejected(instruments, timeframe, given, is_possible)
        batch = batch.take(is_possible)
    if len(batch) == 0:
        return result
    groups = list(_groups(instruments, in_order(batch)))
    is_short = max(np.bincount(batch.series)) <= LOOK_FIRST_LIMIT
    if is_short and not expect_new and not any(_look(group, timeframe)[1] for group in groups):
        result.unchanged = sum(len(group.batch) for group in groups)
        return result
    with transaction.atomic():
        changed: list[Instrument] = []
        newest: list[LiveCandle] = []
        for group in groups:
            changed += _store_group(group, timeframe, result, newest)
            _close_holes(group, timeframe)
        if changed:
            transaction.on_commit(partial(publish_newest, newest), robust=True)
            announcement = partial(
                events.candles_stored.send_robust,
                sender=Ohlcv,
                coin_ids=sorted(instrument.coin_id for instrument in changed),
                timeframe=timeframe,
            )
            transaction.on_commit(announcement, robust=True)
    return result


def possible_candles(
    instrument: Instrument, timeframe: str, candles: Iterable[Candle]
) -> tuple[list[Candle], int]:
    """The candles that can be true, and how many cannot; those are recorded as findings."""
    kept, impossible = sift_candles(candles, timeframe=timeframe, now=clock.now())
    record_findings(
        subject=candle_key(instrument.coin_id, timeframe),
        findings=[reject_candle(candle, reason) for candle, reason in impossible],
        instrument=instrument,
    )
    return kept, len(impossible)


def lock_series(key: str) -> Series:
    """The series' row, locked until the end of the transaction."""
    return lock_all_series([key])[key]


def lock_all_series(keys: Collection[str]) -> dict[str, Series]:
    """The series' rows, locked in the order of their keys until the end of the transaction."""
    locked = Series.objects.select_for_update().filter(key__in=keys).order_by("key")
    found = {series.key: series for series in locked}
    if len(found) < len(set(keys)):
        absent = sorted(set(keys) - set(found))
        Series.objects.bulk_create([Series(key=key) for key in absent], ignore_conflicts=True)
        found = {series.key: series for series in locked.all()}
    return found


def raise_revisions(*, changed: Collection[str], rewritten: Collection[str]) -> None:
    """Raise the revision of every changed series (keys), under their locks. `rewritten` are those
    that were not only appended to: rows changed, went, or came before the newest."""
    appended = set(changed) - set(rewritten)
    if appended:
        Series.objects.filter(key__in=appended).update(revision=F("revision") + 1)
    if rewritten:
        Series.objects.filter(key__in=rewritten).update(
            revision=F("revision") + 1, rewritten_revision=F("revision") + 1
        )


def _record_rejected(
    instruments: Sequence[Instrument],
    timeframe: str,
    given: Sequence[Sequence[Candle]],
    is_possible: Flags,
) -> None:
    now, first = clock.now(), 0
    for instrument, group in zip(instruments, given, strict=True):
        bad = np.flatnonzero(~is_possible[first : first + len(group)]).tolist()
        first += len(group)
        findings = []
        for candle in (group[at] for at in bad):
            # Market time has moved on since the batch was judged.
            reason = check_candle(candle, timeframe=timeframe, now=now) or "still forming"
            findings.append(reject_candle(candle, reason))
        key = candle_key(instrument.coin_id, timeframe)
        record_findings(subject=key, findings=findings, instrument=instrument)


def _groups(instruments: Sequence[Instrument], batch: CandleBatch) -> Iterator[_Group]:
    """The batch by the span of its series: ticks are one group, and a long repair is its own."""
    present, first = np.unique(batch.series, return_index=True)
    last = np.append(first[1:], len(batch)) - 1
    spans: dict[tuple[int, int], list[int]] = {}
    begins, ends = batch.open_time[first].tolist(), batch.open_time[last].tolist()
    for series, span in zip(present.tolist(), zip(begins, ends, strict=True), strict=True):
        spans.setdefault(span, []).append(series)
    for members in spans.values():
        if len(spans) == 1 and len(members) == len(instruments):
            yield _Group(list(instruments), batch)
            return
        part = batch.take(np.isin(batch.series, members))
        renumbered = np.searchsorted(np.array(members), part.series)
        yield _Group([instruments[series] for series in members], part.numbered(renumbered))


def _look(group: _Group, timeframe: str) -> tuple[StoredRows, Plan]:
    """The stored candles of the group's bars, and what of the group changes them."""
    chains = [source_ranking(instrument) for instrument in group.instruments]
    names = _source_names(group, chains)
    first, last = group.span
    stored = read_stored(
        instruments=[instrument.pk for instrument in group.instruments],
        timeframe=timeframe,
        first=first,
        last=last,
        names=names,
        expected=len(group.batch),
    )
    return stored, plan(group.batch, stored, names=names, chains=chains)


def _source_names(group: _Group, chains: Sequence[Sequence[str]]) -> list[str]:
    """The sources that the stored rows may be of, those of the batch first."""
    return list(dict.fromkeys([*group.batch.sources, *(name for each in chains for name in each)]))


def _record_jumps(group: _Group, timeframe: str, stored: StoredRows, changes: Plan) -> None:
    """Flag the candles that a better source replaces by one that closes far away."""
    names = _source_names(group, [source_ranking(each) for each in group.instruments])
    sampled = [name for name in names if name not in VENUES]
    by_series: dict[int, list[Finding]] = {}
    for series, finding in jumps(group.batch, stored, changes, names=names, sampled=sampled):
        by_series.setdefault(series, []).append(finding)
    for series, findings in by_series.items():
        instrument = group.instruments[series]
        key = candle_key(instrument.coin_id, timeframe)
        record_findings(subject=key, findings=findings, instrument=instrument)


def _store_group(
    group: _Group, timeframe: str, result: StoreResult, live: list[LiveCandle]
) -> list[Instrument]:
    """Store the group's candles; gives the instruments of which a row changed, and adds to `live`
    the newest candles of their series. The rows of the series are the lock."""
    keys = [candle_key(instrument.coin_id, timeframe) for instrument in group.instruments]
    lock_all_series(keys)
    stored, changes = _look(group, timeframe)
    result.inserted += len(changes.new)
    result.replaced += len(changes.better)
    result.unchanged += len(group.batch) - len(changes.new) - len(changes.better)
    if not changes:
        return []
    newest = _newest_stored(group.instruments, timeframe)
    write_changes(
        batch=group.batch,
        instruments=[instrument.pk for instrument in group.instruments],
        timeframe=timeframe,
        plan=changes,
        stored=stored,
        now=clock.wall_now(),
    )
    if changes.is_better_source.any():
        _record_jumps(group, timeframe, stored, changes)
    series = group.batch.series
    inserted = np.full(len(keys), np.iinfo(np.int64).max)
    np.minimum.at(inserted, series[changes.new], group.batch.open_time[changes.new])
    is_rewritten = inserted < newest
    is_rewritten[series[changes.better]] = True
    changed = np.unique(series[np.concatenate([changes.new, changes.better])]).tolist()
    raise_revisions(
        changed=[keys[at] for at in changed],
        rewritten=[keys[at] for at in changed if is_rewritten[at]],
    )
    written = np.sort(np.concatenate([changes.new, changes.better]))
    for at in changed:
        row = int(written[series[written] == at][-1])
        if group.batch.open_time[row] >= newest[at]:
            live.append(
                LiveCandle(group.instruments[at].symbol, timeframe, group.batch.candle(row))
            )
    return [group.instruments[at] for at in changed]


def _newest_stored(instruments: Sequence[Instrument], timeframe: str) -> Integers:
    """The newest stored open time of each instrument, in epoch microseconds; far in the past
    without any."""
    candles = Ohlcv.objects.filter(instrument=OuterRef("pk"), timeframe=timeframe)
    newest = Subquery(candles.order_by("-open_time").values("open_time")[:1])
    found = dict(
        Instrument.objects.filter(pk__in=[instrument.pk for instrument in instruments])
        .order_by()
        .annotate(newest=newest)
        .values_list("pk", "newest")
    )
    moments = [found.get(instrument.pk) for instrument in instruments]
    never = np.iinfo(np.int64).min
    return np.array([never if at is None else to_us(at) for at in moments], dtype=np.int64)


def _close_holes(group: _Group, timeframe: str) -> None:
    """Take the stored bars out of the holes they were in."""
    first, last = group.span
    holes = CandleHole.objects.filter(
        instrument__in=group.instruments, timeframe=timeframe, start__lte=last, end__gte=first
    )
    affected = set(holes.order_by().values_list("instrument_id", flat=True))
    for number, instrument in enumerate(group.instruments):
        if instrument.pk in affected:
            filled = group.batch.open_time[group.batch.series == number]
            relabel_holes(
                instrument=instrument,
                timeframe=timeframe,
                filled=[from_us(moment) for moment in filled.tolist()],
                labels={},
            )
