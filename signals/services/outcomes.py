"""The fates of signals: a row each, completed as candles arrive, corrected while they change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import numpy as np
from django.db import transaction

from collectors import clock
from collectors.marketdata import (
    CandleMatrix,
    candle_key,
    duration,
    floor_time,
    last_closed,
    to_ms,
)
from collectors.models import HoleLabel
from collectors.selectors import candle_history
from signals.models import Exit, OutcomeState, Signal, SignalOutcome
from signals.outcomes import HORIZONS_MS, Claim, Fate, Path, follow
from signals.strategy import BoolArray
from signals.track_record import SEVEN_DAYS, WATCHED, due_outcomes, final_holes

BATCH = 500
SPAN = timedelta(days=60)  # of the candles that are read at once
WAIT_STEPS = 2  # a bar that is late by more is a hole
RECHECK = timedelta(hours=1)
HOURLY = "1h"
COMPUTED = [
    "state", "detail", "entry_price", *(f"return_{name}" for name in HORIZONS_MS), "ended_at",
    "exit", "exit_at", "exit_price", "result", "is_hit", "best_return", "worst_return",
    "missing_bars", "revision", "due_at", "changed_at",
]  # fmt: skip


def open_outcomes(*, signals: Iterable[Signal]) -> None:
    """A row for each signal that is not flat, in the transaction that writes the signals. One that
    is there already stays as it is."""
    rows = [
        SignalOutcome(
            signal=signal,
            entry_at=(entry_at := _entry_at(signal.at, followed_timeframe(signal.timeframe))),
            due_at=entry_at,
            series_key=candle_key(signal.instrument.coin_id, followed_timeframe(signal.timeframe)),
            changed_at=clock.wall_now(),
        )
        for signal in signals
        if signal.direction
    ]
    SignalOutcome.objects.bulk_create(rows, ignore_conflicts=True)


def _entry_at(said: datetime, timeframe: str) -> datetime:
    """The open time of the first bar that begins when the signal is said, or after it."""
    begun = floor_time(said, timeframe)
    return begun if begun == said else begun + duration(timeframe)


def followed_timeframe(timeframe: str) -> str:
    """The bars by which signals of a timeframe are followed: hourly ones, or shorter where the
    signals are. Longer bars would tell less of what was touched first."""
    return timeframe if duration(timeframe) < duration(HOURLY) else HOURLY


def advance_outcomes() -> int:
    """Compute every outcome anew of which something more is known, or something else, since its
    last time; gives how many.

    Reads the candles of a batch at once and keeps nothing in between: idempotent, by many at the
    same time. A candle that is corrected later than 30 days after the seven corrects nothing.
    """
    seen: set[int] = set()
    is_all = False
    while not is_all:
        now = clock.now()
        due = [row for row in due_outcomes(now=now, limit=BATCH) if row.pk not in seen]
        rows = [row for row in due if row.entry_at < due[0].entry_at + SPAN]
        is_all = len(rows) == len(due) < BATCH
        if not rows:
            break
        for timeframe in sorted({_timeframe(row) for row in rows}):
            _compute([row for row in rows if _timeframe(row) == timeframe], timeframe, now)
        _write(rows)
        seen |= {row.pk for row in rows}
    return len(seen)


def _timeframe(row: SignalOutcome) -> str:
    return followed_timeframe(row.signal.timeframe)


def _compute(rows: Sequence[SignalOutcome], timeframe: str, now: datetime) -> None:
    """Bring the rows, which are read by candles of the timeframe, up to `now`."""
    step = duration(timeframe)
    coins = sorted({row.signal.instrument.coin_id for row in rows})
    start = min(row.entry_at for row in rows)
    end = min(last_closed(now, timeframe) + step, max(row.entry_at for row in rows) + SEVEN_DAYS)
    candles = candle_history(
        instruments=coins, timeframe=timeframe, start=start, end=max(start, end)
    )
    no_trade, gone = (
        _marked(candles, label, step) for label in (HoleLabel.NO_TRADE, HoleLabel.UNREPAIRABLE)
    )
    for row in rows:
        column = coins.index(row.signal.instrument.coin_id)
        first = (row.entry_at - start) // step
        path = _path(candles, slice(first, first + SEVEN_DAYS // step), column, no_trade, gone)
        claim = _claim(row)
        fate = follow(claim, path)
        if fate.waits_for is not None and now >= row.entry_at + WATCHED:
            # What has not come by now is not waited for any more.
            never = ~(path.valid | path.is_quiet)
            fate = follow(claim, dataclasses.replace(path, is_gone=never))
        _note(row, fate, step, now)


def _marked(candles: CandleMatrix, label: HoleLabel, step: timedelta) -> BoolArray:
    """(B, K): the bars without a candle that are in holes of a label."""
    marked = np.zeros(candles.valid.shape, dtype=np.bool_)
    for coin_id, first, last in final_holes(
        coin_ids=candles.coin_ids, timeframe=candles.timeframe, label=label
    ):
        since, until = np.searchsorted(candles.open_time, (to_ms(first), to_ms(last + step)))
        marked[since:until, candles.coin_ids.index(coin_id)] = True
    return marked & ~candles.valid


def _path(
    candles: CandleMatrix, bars: slice, column: int, no_trade: BoolArray, gone: BoolArray
) -> Path:
    return Path(
        step_ms=duration(candles.timeframe) // timedelta(milliseconds=1),
        open=candles.open[bars, column],
        high=candles.high[bars, column],
        low=candles.low[bars, column],
        close=candles.close[bars, column],
        valid=candles.valid[bars, column],
        sampled=candles.sampled[bars, column],
        is_quiet=no_trade[bars, column],
        is_gone=gone[bars, column],
    )


def _claim(row: SignalOutcome) -> Claim:
    signal = row.signal
    return Claim(
        direction=signal.direction,
        stop_loss=signal.stop_loss,
        take_profit=signal.take_profit,
        entry_ms=to_ms(row.entry_at),
        end_ms=None if row.ended_at is None else to_ms(_entry_at(row.ended_at, _timeframe(row))),
    )


def _note(row: SignalOutcome, fate: Fate, step: timedelta, now: datetime) -> None:
    """Put what is known of a fate into its row."""
    row.entry_price = fate.entry_price
    for name in HORIZONS_MS:
        setattr(row, f"return_{name}", fate.returns[name])
    row.exit = "" if fate.exit is None else Exit(fate.exit)
    row.exit_at = None if fate.exit_bar is None else row.entry_at + fate.exit_bar * step
    row.exit_price, row.result, row.is_hit = fate.exit_price, fate.result, fate.is_hit
    row.best_return, row.worst_return = fate.best_return, fate.worst_return
    row.missing_bars = fate.missing_bars
    row.changed_at = clock.wall_now()
    row.detail = ""
    if fate.waits_for is None:
        row.state = OutcomeState.DONE if fate.is_knowable else OutcomeState.UNKNOWABLE
        row.due_at = None
        return
    wanted = row.entry_at + fate.waits_for * step
    if wanted + step <= now - WAIT_STEPS * step:
        row.state = OutcomeState.WAITING
        row.detail = f"the bar of {wanted:%Y-%m-%d %H:%M} is missing"
        row.due_at = now + RECHECK
    else:
        row.state = OutcomeState.OPEN
        row.due_at = wanted + step


@transaction.atomic
def _write(rows: Sequence[SignalOutcome]) -> None:
    """Write all but those that somebody has computed from newer candles meanwhile."""
    locked = SignalOutcome.objects.select_for_update().order_by("pk")
    stored = dict(locked.filter(pk__in=[row.pk for row in rows]).values_list("pk", "revision"))
    current = [row for row in rows if stored.get(row.pk, row.revision + 1) <= row.revision]
    SignalOutcome.objects.bulk_create(
        current, update_conflicts=True, unique_fields=["signal"], update_fields=COMPUTED
    )
