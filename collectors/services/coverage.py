"""Collection as gap repair: what the table lacks is asked for, and only that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Min

from collectors import clock, selectors
from collectors.marketdata import candle_key, duration, floor_time, from_ms, to_ms
from collectors.models import CollectionState, HoleLabel, Instrument, Ohlcv
from collectors.services.candles import lock_series, store_candles
from collectors.services.holes import Label, relabel_holes
from collectors.services.leases import Lease, take_lease
from collectors.services.search import (
    BAR_RUN_PATIENCE,
    Coverage,
    Search,
    ask_sources,
    fresh_from,
    step_ms,
)

HISTORY_DEPTH = timedelta(days=75)
# A venue may still be closing the bar that our clock says is closed (market time), and the stream
# is about to bring it without a call (wall time).
SETTLING, STREAM_SETTLING = timedelta(seconds=2), timedelta(seconds=0.5)
# How long a bar may be missing at its source before that says something about the bar.
FINAL_AFTER = timedelta(minutes=15)
DORMANT_FOR = timedelta(days=1)


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
    on_progress: Callable[[int], None] | None = None,
) -> Coverage:
    """Fetch what the table lacks in [start, last bar closed at `until`], from the first source
    of the instrument's chain that can serve it; label what no source has.

    Costs no call when nothing is lacking. Without `start`, from `default_history_start` or the
    first bar that any source has. With `retry_labelled` finally labelled holes are asked for
    again. `on_progress` is told the number of bars found after every request. Provider errors
    are reported in the result, never raised.
    """
    result = Coverage(coin_id=instrument.coin_id, timeframe=timeframe)
    state, _ = CollectionState.objects.get_or_create(instrument=instrument, timeframe=timeframe)
    end = floor_time(until - settling(), timeframe)
    begin = _begin(state, timeframe, start)
    bars = selectors.lacking_bars(
        instrument=instrument,
        timeframe=timeframe,
        start=begin,
        end=end,
        retry_labelled=retry_labelled,
    )
    if len(bars) == 0:
        return result
    if start is None and _is_dormant(state):
        result.awaited = len(bars)
        return result
    lease = take_lease(state)
    if lease is None:
        result.is_busy = True
        return result
    try:
        with lease.renewed():
            search = ask_sources(instrument, timeframe, bars, result, on_progress)
            _store(instrument, timeframe, search, result)
            _label(instrument, timeframe, search, begin, result, lease)
    except BaseException as error:
        lease.release([*result.errors, f"{type(error).__name__}: {error}"])
        raise
    lease.release(result.errors, result.response_ms)
    return result


def _begin(state: CollectionState, timeframe: str, start: datetime | None) -> datetime:
    if start is None:
        start = max(default_history_start(), state.history_from or default_history_start())
    floored = floor_time(start, timeframe)
    return floored if floored == start else floored + duration(timeframe)


def _is_dormant(state: CollectionState) -> bool:
    """Whether no source had any candle of the series when they were asked within the last day
    (market time): a coin that is not listed yet need not be asked for at every bar."""
    asked = state.last_success_at
    if state.history_from is None or asked is None or asked < clock.now() - DORMANT_FOR:
        return False
    candles = Ohlcv.objects.filter(instrument=state.instrument, timeframe=state.timeframe)
    return not candles.exists()


# -- Keeping -----------------------------------------------------------------------------------


def _store(instrument: Instrument, timeframe: str, search: Search, result: Coverage) -> None:
    if not search.found:
        return
    candles = [search.found[bar] for bar in sorted(search.found)]
    stored = store_candles(instrument=instrument, timeframe=timeframe, candles=candles)
    result.stored = stored.inserted


def _label(
    instrument: Instrument,
    timeframe: str,
    search: Search,
    begin: datetime,
    result: Coverage,
    lease: Lease,
) -> None:
    """Give every bar that was not found its label, and learn where the history begins."""
    missing = [bar for bar in search.bars.tolist() if bar not in search.found]
    if not missing:
        return
    recorded_before = fresh_from(timeframe, clock.current().widen(BAR_RUN_PATIENCE) / 2)
    final_before = fresh_from(timeframe, clock.current().widen(FINAL_AFTER))
    with transaction.atomic():
        lock_series(candle_key(instrument.coin_id, timeframe))
        if not lease.mine().exists():
            return  # who came after us knows better
        # The stream may have brought some while the sources were asked.
        lacking = selectors.lacking_bars(
            instrument=instrument,
            timeframe=timeframe,
            start=from_ms(missing[0]),
            end=from_ms(missing[-1]) + duration(timeframe),
            retry_labelled=True,
        )
        missing = sorted(set(missing).intersection(lacking.tolist()))
        first_bar = _history_begin(instrument, timeframe, search, begin, missing, final_before)
        labels: dict[datetime, Label] = {}
        for bar in missing:
            if bar < first_bar:
                continue
            if bar >= recorded_before:
                result.awaited += 1
                continue
            label = _label_of(bar, search, final_before)
            labels[from_ms(bar)] = label
            name = label.label
            result.pending += name == HoleLabel.PENDING
            result.no_trade += name == HoleLabel.NO_TRADE
            result.unrepairable += name == HoleLabel.UNREPAIRABLE
        before_history = [from_ms(bar) for bar in missing if bar < first_bar]
        relabel_holes(
            instrument=instrument, timeframe=timeframe, filled=before_history, labels=labels
        )


def _label_of(bar: int, search: Search, final_before: int) -> Label:
    if bar in search.unanswered:
        return Label(HoleLabel.PENDING, search.unanswered[bar][:200])
    if bar >= final_before:
        return Label(HoleLabel.PENDING, "not there yet")
    if bar in search.answered_by_venue:
        return Label(HoleLabel.NO_TRADE, "an exchange answered and has no bar")
    return Label(HoleLabel.UNREPAIRABLE, "no source has it")


def _history_begin(
    instrument: Instrument,
    timeframe: str,
    search: Search,
    begin: datetime,
    missing: list[int],
    final_before: int,
) -> int:
    """The open time (ms) before which nothing is required, stored when it moved.

    When all sources answered for the bars before the first stored candle and have none, the
    history begins with that candle; without any candle, with the first bar that may still come.
    """
    candles = Ohlcv.objects.filter(instrument=instrument, timeframe=timeframe)
    oldest = candles.aggregate(oldest=Min("open_time"))["oldest"]
    lead_end = to_ms(oldest) if oldest is not None else final_before
    lead = [bar for bar in missing if bar < lead_end]
    if not lead or lead[0] != to_ms(begin) or any(bar in search.unanswered for bar in lead):
        return 0
    step = step_ms(timeframe)
    first_bar = to_ms(oldest) if oldest is not None else lead[-1] + step
    CollectionState.objects.filter(instrument=instrument, timeframe=timeframe).update(
        history_from=from_ms(first_bar)
    )
    return first_bar
