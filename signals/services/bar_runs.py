"""The bar run: all enabled strategies, all instruments, one closed bar after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.db import transaction

from collectors import clock
from collectors.marketdata import duration
from collectors.models import Instrument
from collectors.selectors import strategy_instruments
from signals import events, publication, selectors
from signals.consensus import LEAD_BARS, Panel, consensus_of, panel_of
from signals.forecasts import (
    LastSaid,
    Stance,
    forecasts_of_row,
    market_context,
    settled_instruments,
    stance_at,
)
from signals.models import BarRun, InitialState, RunState, Signal
from signals.registry import CONSENSUS
from signals.selectors import Member
from signals.services.leases import held, lease_kept, take_lease
from signals.services.outcomes import open_outcomes
from signals.services.passes import run_members
from signals.services.withdrawals import withdrawals
from signals.silence import reason_of
from signals.strategy import Analysis, Forecast, Market

log = structlog.get_logger(__name__)

PATIENCE = timedelta(seconds=30)  # of market time, after the close
# Of wall time, on top, at an installation's first bar: its whole history is being fetched.
FIRST_PATIENCE = timedelta(seconds=60)
BARS_PER_CALL = 96


class LeaseLost(Exception):
    """Somebody else has taken over this bar run; what was computed is thrown away."""


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Consecutive bars, computed together: row 0 of every array is the bar before the first."""

    market: Market | None  # None when there is no strategy or no instrument
    analyses: Mapping[str, Analysis]  # the strategies and, if any, the consensus
    panel: Panel | None  # what the consensus was made of; None when there is none
    revisions: Mapping[str, int]
    members: frozenset[str]  # who should have run, also when it raised
    settled: frozenset[str]  # the coins whose history is there
    failures: Mapping[str, str]  # who raised, was too slow or was refused, and why
    durations: Mapping[str, float] = field(default_factory=dict)  # wall seconds
    silences: Sequence[Mapping[str, Mapping[str, str]]] = ()  # of each row: who withheld what, why


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What was last said and what was found at the first bar, by strategy and coin id.

    Read once and carried from bar to bar: while a call holds one lease after the other, nobody
    else says anything in between.
    """

    said: dict[tuple[str, str], Signal]
    found: dict[tuple[str, str], InitialState]

    def stances(self) -> LastSaid:
        """The newest state of each, as it was said or else found."""
        newest: dict[tuple[str, str], InitialState | Signal] = {**self.found, **self.said}
        return {
            key: Stance(direction=row.direction, stop_loss=row.stop_loss)
            for key, row in newest.items()
        }


def run_due_bars(*, timeframe: str) -> list[BarRun]:
    """Run every due bar of a timeframe in order and return the finished runs.

    A bar is run when all its candles are there or its patience is over, under a lease: a bar
    that another caller holds ends the call. Idempotent; safe to call at any moment, by many.
    """
    bars = selectors.due_bars(timeframe=timeframe, limit=BARS_PER_CALL)
    if not bars:
        return []
    members, refused = selectors.runnable_members(timeframe=timeframe)
    instruments = strategy_instruments(at=clock.now())
    ready = _ready_bars(bars, instruments, members, timeframe)
    if not ready:
        return []
    batch: _Batch | None = None
    known: _Known | None = None
    finished: list[BarRun] = []
    for index, (bar, is_complete) in enumerate(ready):
        run = take_lease(timeframe=timeframe, bar=bar)
        if run is None:
            break
        if batch is None:
            with lease_kept(run):
                batch = _compute(instruments, members, refused, timeframe, bar, ready[-1][0])
        run.is_complete = is_complete
        if known is None:
            known = _read_known(run)
        try:
            _finish(run, batch, row=index + 1, instruments=instruments, known=known)
        except LeaseLost:
            log.warning("bar_run_lease_lost", timeframe=timeframe, bar=bar.isoformat())
            break
        finished.append(run)
    return finished


def _read_known(run: BarRun) -> _Known:
    said = selectors.last_said(timeframe=run.timeframe, before=run.bar_open_time)
    found = selectors.initial_states(timeframe=run.timeframe, until=run.bar_open_time)
    return _Known(
        said={(each.strategy, each.instrument.coin_id): each for each in said},
        found={(each.strategy, each.instrument.coin_id): each for each in found},
    )


def _ready_bars(
    bars: Sequence[datetime],
    instruments: Sequence[Instrument],
    members: Mapping[str, Member],
    timeframe: str,
) -> list[tuple[datetime, bool]]:
    """The leading bars that may run now, each with whether all its candles are there."""
    ready: list[tuple[datetime, bool]] = []
    patience = clock.current().widen(PATIENCE)
    if not BarRun.objects.filter(timeframe=timeframe, state=RunState.DONE).exists():
        patience += FIRST_PATIENCE * clock.current().speed
    for bar in bars:
        late = selectors.waiting_for(
            instruments=instruments, members=members, timeframe=timeframe, bar=bar
        )
        if late and clock.now() < bar + duration(timeframe) + patience:
            break
        if late:
            log.warning("bar_run_incomplete", bar=bar.isoformat(), missing=late)
        ready.append((bar, not late))
    return ready


def _compute(
    instruments: Sequence[Instrument],
    members: Mapping[str, Member],
    refused: Mapping[str, str],
    timeframe: str,
    first: datetime,
    last: datetime,
) -> _Batch:
    """All strategies over the bars [first, last] and the bar before them, outside a transaction.

    A strategy that fails is left out; the others and the consensus of them go on.
    """
    step = duration(timeframe)
    if not members or not instruments:
        return _Batch(
            market=None,
            analyses={},
            panel=None,
            revisions={},
            members=frozenset(members),
            settled=frozenset(),
            failures=dict(refused),
        )
    history = selectors.load_history(
        coin_ids=[instrument.coin_id for instrument in instruments],
        members=members,
        start=first - step,
        end=last + step,
        with_consensus=True,
    )
    rows = (last - first) // step + 2
    done = run_members(
        members=members, history=history, start=first - step - LEAD_BARS * step, rows=rows
    )
    analyses = done.analyses
    total = len(history.market.open_time)
    panel: Panel | None = None
    if analyses:
        weights = {name: members[name].weight for name in analyses}
        panel = panel_of(market=history.market, analyses=analyses, weights=weights)
        analyses = {name: each.rows(LEAD_BARS, LEAD_BARS + rows) for name, each in analyses.items()}
        analyses[CONSENSUS] = consensus_of(panel, rows)
    return _Batch(
        market=history.market.rows(total - rows, total),
        analyses=analyses,
        panel=panel,
        revisions=history.revisions,
        members=frozenset(members),
        settled=settled_instruments(history.market.rows(history.lead, total)),
        failures={**refused, **done.failures},
        durations=done.durations,
        silences=done.silences,
    )


def _finish(
    run: BarRun,
    batch: _Batch,
    *,
    row: int,
    instruments: Sequence[Instrument],
    known: _Known,
) -> None:
    """Write the run's signals and its end in one transaction, and keep in `known` what they say.
    Raises LeaseLost."""
    said = list(known.said.values())
    stances = known.stances()
    forecasts: list[Forecast] = []
    if batch.market is not None:
        forecasts = forecasts_of_row(
            analyses=batch.analyses,
            panel=batch.panel,
            market=batch.market,
            row=row,
            last_said=stances,
        )
    by_coin = {instrument.coin_id: instrument for instrument in instruments}
    first_states = _first_states(run, batch, row, stances, by_coin)
    forecasts += withdrawals(
        run=run, said=said, members=batch.members, refused=batch.failures, offered=by_coin.keys()
    )
    by_coin |= {signal.instrument.coin_id: signal.instrument for signal in said}
    context = market_context(batch.market, batch.analyses, row)
    silences = batch.silences[row] if batch.silences else {}
    signals = [
        _signal(_explained(forecast, silences), by_coin[forecast.coin_id], run)
        for forecast in forecasts
    ]
    run.state = RunState.DONE
    run.revisions = dict(batch.revisions)
    run.failures = dict(batch.failures)
    run.durations = dict(batch.durations)
    run.withheld = dict(silences)
    run.signal_count = len(signals)
    run.finished_at = clock.wall_now()
    with transaction.atomic():
        written = held(run).update(
            state=run.state,
            is_complete=run.is_complete,
            revisions=run.revisions,
            failures=run.failures,
            durations=run.durations,
            withheld=run.withheld,
            signal_count=run.signal_count,
            finished_at=run.finished_at,
            leased_until=None,
        )
        if not written:
            raise LeaseLost(str(run))
        InitialState.objects.bulk_create(first_states, ignore_conflicts=True)
        stored: list[Signal] = []
        if signals:
            Signal.objects.bulk_create(signals, ignore_conflicts=True)
            stored = list(run.signals.select_related("instrument").order_by("id"))
            open_outcomes(signals=stored)
        finished = partial(
            events.bar_run_finished.send_robust,
            sender=BarRun,
            timeframe=run.timeframe,
            bar_open_time=run.bar_open_time,
            signal_ids=[signal.pk for signal in stored],
        )
        transaction.on_commit(finished, robust=True)
        transaction.on_commit(partial(publication.publish, stored, context), robust=True)
    known.found.update({(each.strategy, each.instrument.coin_id): each for each in first_states})
    known.said.update({(each.strategy, each.instrument.coin_id): each for each in stored})


def _first_states(
    run: BarRun,
    batch: _Batch,
    row: int,
    stances: LastSaid,
    by_coin: Mapping[str, Instrument],
) -> list[InitialState]:
    """The states at the bar before of whom nothing is known yet and whose history is there."""
    if batch.market is None:
        return []
    is_real = batch.market.valid[row - 1]
    found = []
    for name, analysis in batch.analyses.items():
        for column, coin_id in enumerate(batch.market.instruments):
            if (name, coin_id) in stances:
                continue
            if not is_real[column] or coin_id not in batch.settled:
                continue
            stance = stance_at(analysis, row - 1, column)
            found.append(
                InitialState(
                    strategy=name,
                    instrument=by_coin[coin_id],
                    timeframe=run.timeframe,
                    bar_open_time=run.bar_open_time,
                    direction=stance.direction,
                    stop_loss=stance.stop_loss,
                )
            )
    return found


def _explained(forecast: Forecast, silences: Mapping[str, Mapping[str, str]]) -> Forecast:
    """The forecast, with the reason if it is flat because its row could not be computed."""
    reason = reason_of(silences.get(forecast.strategy, {}), forecast.coin_id)
    if forecast.direction or reason is None or "withdrawn" in forecast.reasons:
        return forecast
    return replace(forecast, reasons={**forecast.reasons, "withheld": reason})


def _signal(forecast: Forecast, instrument: Instrument, run: BarRun) -> Signal:
    return Signal(
        strategy=forecast.strategy,
        instrument=instrument,
        timeframe=forecast.timeframe,
        bar_open_time=forecast.open_time,
        at=forecast.closed_at,
        direction=forecast.direction,
        confidence=forecast.confidence,
        price=forecast.price,
        stop_loss=forecast.stop_loss,
        take_profit=forecast.take_profit,
        position_size=forecast.position_size,
        expires_at=forecast.expires_at,
        reasons=dict(forecast.reasons),
        run=run,
        created_at=clock.wall_now(),
    )
