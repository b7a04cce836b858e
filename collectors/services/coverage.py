"""Collection as gap repair: what the table lacks is asked for, and only that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from django.conf import settings
from django.db import transaction
from django.db.models import Min

from collectors import clock, selectors, spans
from collectors.exchange import ProviderError
from collectors.marketdata import candle_key, duration, floor_time, from_ms, to_ms
from collectors.models import (
    CollectionState,
    HoleLabel,
    Instrument,
    Ohlcv,
    RetentionPolicy,
    SourceGap,
)
from collectors.services.candles import lock_series, store_candles
from collectors.services.holes import Label, relabel_holes
from collectors.services.leases import Lease, take_lease
from collectors.services.search import (
    BAR_RUN_PATIENCE,
    Coverage,
    Search,
    ask_sources,
    fresh_from,
    source_names,
    step_ms,
)
from collectors.services.upgrades import recent_from, upgrade_bars, worse_bars

HISTORY_DEPTH = timedelta(days=75)
# A venue may still be closing the bar that our clock says is closed (market time), and the stream
# is about to bring it without a call (wall time).
SETTLING, STREAM_SETTLING = timedelta(seconds=2), timedelta(seconds=0.5)
# How long a bar may be missing at its source before that says something about the bar.
FINAL_AFTER = timedelta(minutes=15)
DORMANT_FOR = timedelta(days=1)
# Bars asked for, stored and labelled before the next: four pages of the best source.
CHUNK_BARS = 6_000


def default_history_start() -> datetime:
    """From when on candles are kept without being asked for: 75 days before the market clock
    started (or before now), at midnight. Strategies' lookbacks and the month they start in fit."""
    begin = settings.ENV.clock_start or clock.now()
    return floor_time(begin - HISTORY_DEPTH, "1d")


def settling() -> timedelta:
    """For how long after its close (market time) a bar is nobody's lack yet."""
    return SETTLING + STREAM_SETTLING * clock.current().speed


def ensure_coverage(
    *,
    instrument: Instrument,
    timeframe: str,
    until: datetime,
    start: datetime | None = None,
    retry_labelled: bool = False,
    retry_worse: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Coverage:
    """Fetch what the table lacks in [start, last bar closed at `until`], from the first source
    of the instrument's chain that can serve it; label what no source has.

    Costs no call when nothing is lacking. Without `start`, from `default_history_start` or the
    first bar that any source has. With `retry_labelled`, and when a source is new to the series,
    finally labelled holes are asked for again; with `retry_worse`, so are bars that a worse source
    gave while a better one was away, all of them from an explicit `start`, else those of
    `upgrades.RECENT`. Works in chunks, oldest first: what an interruption leaves is stored, and
    the next call goes on from there.
    `on_progress` is told, after each chunk, how many bars have been asked for. Provider errors
    are reported in the result, never raised.
    """
    result = Coverage(coin_id=instrument.coin_id, timeframe=timeframe)
    state, _ = CollectionState.objects.get_or_create(instrument=instrument, timeframe=timeframe)
    sources = source_names(instrument)
    has_new = not set(sources) <= set(state.asked_sources)
    if has_new:
        # What the others do not have says nothing of what this one has.
        state.history_from = _pruned_before()
    end = closed_until(until, timeframe)
    begin = _begin(state, timeframe, start)
    bars = selectors.lacking_bars(
        instrument=instrument,
        timeframe=timeframe,
        start=begin,
        end=end,
        retry_labelled=retry_labelled or has_new,
    )
    worse_from = begin if start is not None else max(begin, recent_from(timeframe))
    worse = worse_bars(instrument, timeframe, worse_from, end) if retry_worse else None
    if len(bars) == 0 and not worse:
        return result
    if start is None and _is_dormant(state):
        result.awaited = len(bars)
        return result
    lease = take_lease(state)
    if lease is None:
        result.is_busy = True
        return result
    repair = _Repair(instrument, timeframe, lease, result, lead=_leads_from(state, begin))
    try:
        with lease.renewed():
            if sources != state.asked_sources:
                _rest_on(sources, state, lease, has_new=has_new)
            for first in range(0, len(bars), CHUNK_BARS):
                repair.work_off(bars[first : first + CHUNK_BARS])
                if result.is_busy:
                    break
                if on_progress is not None:
                    on_progress(min(first + CHUNK_BARS, len(bars)))
            if worse and not result.is_busy:
                upgrade_bars(instrument, timeframe, worse, result, repair.down)
    except BaseException as error:
        lease.release([*result.errors, f"{type(error).__name__}: {error}"])
        raise
    lease.release(result.errors, result.response_ms)
    return result


def closed_until(until: datetime, timeframe: str) -> datetime:
    """The end of the bars that are closed at `until`, and that venues have closed by now."""
    return floor_time(min(until, clock.now() - settling()), timeframe)


def _begin(state: CollectionState, timeframe: str, start: datetime | None) -> datetime:
    if start is None:
        start = max(default_history_start(), state.history_from or default_history_start())
    floored = floor_time(start, timeframe)
    return floored if floored == start else floored + duration(timeframe)


def _pruned_before() -> datetime | None:
    """The moment before which candles were deleted for their age."""
    policies = RetentionPolicy.objects.filter(kind="candles")
    return policies.values_list("pruned_before", flat=True).first()


def _rest_on(sources: list[str], state: CollectionState, lease: Lease, *, has_new: bool) -> None:
    """Remember whose answers count from now on. A new source has not answered for any bar yet:
    what was given up is pending again, and the history may begin earlier."""
    instrument, timeframe = state.instrument, state.timeframe
    begin = _begin(state, timeframe, None)
    with transaction.atomic():
        lock_series(candle_key(instrument.coin_id, timeframe))
        if not lease.mine().update(asked_sources=sources):
            return
        if not has_new:
            return
        lease.mine().update(history_from=state.history_from)
        SourceGap.objects.filter(instrument=instrument, timeframe=timeframe).delete()
        given_up = selectors.given_up_bars(instrument=instrument, timeframe=timeframe, start=begin)
        pending = Label(HoleLabel.PENDING, "a new source was not asked yet")
        relabel_holes(
            instrument=instrument,
            timeframe=timeframe,
            filled=(),
            labels={from_ms(bar): pending for bar in given_up.tolist()},
        )


def _is_dormant(state: CollectionState) -> bool:
    """Whether no source had any candle of the series when they were asked within the last day
    (market time): a coin that is not listed yet need not be asked for at every bar."""
    asked = state.last_success_at
    if state.history_from is None or asked is None or asked < clock.now() - DORMANT_FOR:
        return False
    candles = Ohlcv.objects.filter(instrument=state.instrument, timeframe=state.timeframe)
    return not candles.exists()


def _leads_from(state: CollectionState, begin: datetime) -> int | None:
    """The bar at which the search for the begin of the history starts, if this is that search:
    nothing that may be asked for lies before it."""
    is_first = begin <= (state.history_from or default_history_start())
    return to_ms(begin) if is_first else None


@dataclass
class _Repair:
    """The work on the lacking bars of one series, a chunk at a time, oldest first.

    `lead` is the open time (ms) up to which all sources answered and have nothing: the history
    cannot begin before. None once it has begun, or when that is not known.
    """

    instrument: Instrument
    timeframe: str
    lease: Lease
    result: Coverage
    lead: int | None
    down: dict[str, ProviderError] = field(default_factory=dict)

    def work_off(self, bars: spans.Bars) -> None:
        """Ask for the bars, store what was found and label what was not. The result is busy when
        somebody else has taken the series over."""
        if not self.lease.mine().exists():
            self.result.is_busy = True
            return
        search = ask_sources(self.instrument, self.timeframe, bars, self.result, self.down)
        if search.found:
            candles = [search.found[bar] for bar in sorted(search.found)]
            # The new ones win: of one bar the last given is kept.
            stored = store_candles(
                instrument=self.instrument,
                timeframe=self.timeframe,
                candles=[*search.beside, *candles],
            )
            self.result.stored += stored.inserted
            self.result.replaced += stored.replaced
            self._begin_no_later(candles[0].open_time)
        missing = search.without_found(bars)
        if len(missing):
            self._label(search, missing)
        if len(missing) < len(bars):
            self.lead = None

    def _begin_no_later(self, open_time: datetime) -> None:
        """A candle from before the history's begin: it begins earlier."""
        CollectionState.objects.filter(
            instrument=self.instrument, timeframe=self.timeframe, history_from__gt=open_time
        ).update(history_from=open_time)

    def _label(self, search: Search, bars: spans.Bars) -> None:
        """Give every bar that was not found its label, and learn where the history begins."""
        recorded_before = fresh_from(self.timeframe, clock.current().widen(BAR_RUN_PATIENCE) / 2)
        final_before = fresh_from(self.timeframe, clock.current().widen(FINAL_AFTER))
        with transaction.atomic():
            lock_series(candle_key(self.instrument.coin_id, self.timeframe))
            if not self.lease.mine().exists():
                return  # who came after us knows better
            # The stream may have brought some while the sources were asked.
            lacking = selectors.lacking_bars(
                instrument=self.instrument,
                timeframe=self.timeframe,
                start=from_ms(int(bars[0])),
                end=from_ms(int(bars[-1])) + duration(self.timeframe),
                retry_labelled=True,
            )
            missing = np.intersect1d(bars, lacking, assume_unique=True).tolist()
            first_bar = self._history_begin(search, missing, final_before)
            labels: dict[datetime, Label] = {}
            for bar in missing:
                if bar < first_bar:
                    continue
                if bar >= recorded_before:
                    self.result.awaited += 1
                    continue
                label = _label_of(bar, search, final_before)
                labels[from_ms(bar)] = label
                self._count(label.label)
            relabel_holes(
                instrument=self.instrument,
                timeframe=self.timeframe,
                filled=[from_ms(bar) for bar in missing if bar < first_bar],
                labels=labels,
            )

    def _count(self, label: str) -> None:
        self.result.pending += label == HoleLabel.PENDING
        self.result.no_trade += label == HoleLabel.NO_TRADE
        self.result.unrepairable += label == HoleLabel.UNREPAIRABLE

    def _history_begin(self, search: Search, missing: list[int], final_before: int) -> int:
        """The open time (ms) before which nothing is required, stored when it moved.

        When all sources answered for the bars before the first stored candle and have none, the
        history begins with that candle; without any candle, with the first bar that may still
        come.
        """
        candles = Ohlcv.objects.filter(instrument=self.instrument, timeframe=self.timeframe)
        oldest = candles.aggregate(oldest=Min("open_time"))["oldest"]
        lead_end = to_ms(oldest) if oldest is not None else final_before
        lead = [bar for bar in missing if bar < lead_end]
        if not lead or lead[0] != self.lead or any(bar in search.unanswered for bar in lead):
            self.lead = None
            return 0
        step = step_ms(self.timeframe)
        self.lead = lead[-1] + step
        CollectionState.objects.filter(instrument=self.instrument, timeframe=self.timeframe).update(
            history_from=from_ms(self.lead)
        )
        return self.lead


def _label_of(bar: int, search: Search, final_before: int) -> Label:
    if bar in search.unanswered:
        return Label(HoleLabel.PENDING, search.unanswered[bar][:200])
    if bar >= final_before:
        return Label(HoleLabel.PENDING, "not there yet")
    if bar in search.answered_by_venue:
        return Label(HoleLabel.NO_TRADE, "an exchange answered and has no bar")
    return Label(HoleLabel.UNREPAIRABLE, "no source has it")
