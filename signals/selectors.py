"""What can be read of signals: the strategies in force, histories analysed, bars due, signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import Max, Min, OuterRef, QuerySet, Subquery

from collectors import clock
from collectors.derived import history_keys
from collectors.marketdata import duration, floor_time, last_closed, macro_key
from collectors.models import Instrument
from collectors.selectors import (
    macro_is_current,
    missing_at,
    revisions,
)
from signals.catalog import RELOADING, StrategyReloading, build_strategy, strategy_of
from signals.codehash import code_hash
from signals.company import company_of, of_asked
from signals.consensus import LEAD_BARS, MARKET_LEAD_BARS, Panel, consensus_of, panel_of
from signals.driver import history_start, restricted, run_pinned
from signals.forecasts import forecasts_of_row
from signals.histories import History, read_history
from signals.models import (
    BarRun,
    InitialState,
    RunState,
    Signal,
    StrategyConfig,
    StrategyOrigin,
)
from signals.parameters import ParameterError
from signals.registry import CONSENSUS, UnknownStrategy
from signals.strategy import (
    Analysis,
    BoolArray,
    Forecast,
    Market,
    Strategy,
    StrategyError,
)

READ_ATTEMPTS = 3


class NothingEnabled(ValueError):
    """The consensus was asked for, but no strategy of the timeframe is enabled."""


class WrongTimeframe(ValueError):
    """The strategy is not made for this timeframe."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A strategy as it is run: with its parameters, and its weight in the consensus."""

    strategy: Strategy
    weight: float = 1.0
    assets: frozenset[str] = frozenset()  # the coins it speaks of; all when empty


@dataclass(frozen=True, kw_only=True)
class HistoryRun:
    """The bars [start, end) with what a strategy (or the consensus) says at each of them.

    All arrays are aligned, bars x instruments in the order of `market.instruments`. `analyses`
    hold what each single strategy said; `panel` what the consensus was made of, None for one alone.
    """

    market: Market
    sampled: BoolArray
    analysis: Analysis
    analyses: Mapping[str, Analysis]
    panel: Panel | None
    revisions: Mapping[str, int]


def runnable_members(*, timeframe: str) -> tuple[dict[str, Member], dict[str, str]]:
    """The enabled strategies of a timeframe by name, and for those that cannot run: why.

    Of a file that has changed since it was certified the reason is RELOADING: it passes.
    """
    members: dict[str, Member] = {}
    refused: dict[str, str] = {}
    for config in StrategyConfig.objects.filter(is_enabled=True).order_by("name"):
        is_file = config.origin == StrategyOrigin.FILE
        if is_file and config.declaration.get("timeframe", timeframe) != timeframe:
            continue
        try:
            strategy = strategy_of(config)
        except StrategyReloading:
            refused[config.name] = RELOADING
            continue
        except (UnknownStrategy, ParameterError) as error:
            refused[config.name] = str(error)
            continue
        if strategy.timeframe != timeframe:
            continue
        if config.certificate_hash != code_hash(strategy):
            reason = "no certificate for this code and these parameters"
            refused[config.name] = RELOADING if is_file else reason
            continue
        try:
            _ = strategy.lookback  # a file's may have to be asked for, and everybody needs it
        except StrategyError as error:
            refused[config.name] = str(error)
            continue
        members[config.name] = _member(strategy, config)
    return members, refused


def load_history(
    *,
    coin_ids: Sequence[str],
    members: Mapping[str, Member],
    start: datetime,
    end: datetime,
    with_consensus: bool = False,
) -> History:
    """Everything the members need to compute the bars that open in [start, end), and if asked for
    what their consensus needs: LEAD_BARS rows of theirs before `start`, MARKET_LEAD_BARS bars.

    All members share one timeframe. The revisions are those before and after the read; when a
    series changes while it is read, it is read again, and after three changes the older revision
    is recorded.
    """
    strategies = [member.strategy for member in members.values()]
    timeframe = strategies[0].timeframe
    needed = min(history_start(start, each.lookback, timeframe) for each in strategies)
    since = needed
    step = duration(timeframe)
    if with_consensus:
        led = start - LEAD_BARS * step
        since = min(history_start(led, each.lookback, timeframe) for each in strategies)
        since = min(since, start - MARKET_LEAD_BARS * step)
    series = sorted({name for each in strategies for name in each.macro_series})
    keys = [key for coin_id in coin_ids for key in history_keys(coin_id, timeframe)]
    keys += [macro_key(name) for name in series]
    for _ in range(READ_ATTEMPTS):
        seen = revisions(keys=keys)
        history = read_history(coin_ids, timeframe, since, end, series, seen)
        if revisions(keys=keys) == seen:
            break
    return replace(history, lead=(needed - since) // step)


def analyse_history(
    *,
    strategy_name: str,
    coin_ids: Sequence[str],
    timeframe: str,
    start: datetime,
    end: datetime,
    parameters: Mapping[str, Any] | None = None,
) -> HistoryRun:
    """What a strategy (or the enabled ones' consensus) says at bars opening in [start, end).

    `parameters` replace the stored ones of a single strategy; for the consensus they map strategy
    names to parameters. Raises UnknownStrategy, ParameterError, NothingEnabled, WrongTimeframe, and
    StrategyError for a fault of the strategy's own.
    """
    members = members_of(strategy_name=strategy_name, timeframe=timeframe, parameters=parameters)
    is_consensus = strategy_name == CONSENSUS
    company = company_of(coin_ids, (each.strategy for each in members.values()), at=end)
    history = load_history(
        coin_ids=company, members=members, start=start, end=end, with_consensus=is_consensus
    )
    lead = LEAD_BARS if is_consensus else 0
    begin = start - lead * duration(timeframe)
    analyses = {
        name: restricted(
            run_pinned(member.strategy, history.market, start=begin, end=end),
            instruments=history.market.instruments,
            assets=member.assets,
        )
        for name, member in members.items()
    }
    market, sampled, analyses = of_asked(history.market, history.sampled, analyses, coin_ids)
    stop = len(market.open_time)
    rows = len(next(iter(analyses.values())).direction) - lead
    panel = None
    if is_consensus:
        weights = {name: member.weight for name, member in members.items()}
        panel = panel_of(market=market, analyses=analyses, weights=weights)
        analyses = {name: each.rows(lead, lead + rows) for name, each in analyses.items()}
    return HistoryRun(
        market=market.rows(stop - rows, stop),
        sampled=sampled[stop - rows : stop],
        analysis=consensus_of(panel, rows) if panel else analyses[strategy_name],
        analyses=analyses,
        panel=panel,
        revisions=history.revisions,
    )


def members_of(
    *, strategy_name: str, timeframe: str, parameters: Mapping[str, Any] | None = None
) -> dict[str, Member]:
    """The strategies behind a name. Errors as in `analyse_history`."""
    if strategy_name == CONSENSUS:
        members, _ = runnable_members(timeframe=timeframe)
        if not members:
            raise NothingEnabled(f"no strategy of timeframe {timeframe} is enabled")
        for name, values in (parameters or {}).items():
            if name not in members:
                raise UnknownStrategy(f"{name!r} takes no part in the consensus")
            members[name] = replace(members[name], strategy=build_strategy(name, values))
        return members
    config = StrategyConfig.objects.filter(name=strategy_name).first()
    stored = config.parameters if config else {}
    strategy = build_strategy(strategy_name, stored if parameters is None else parameters)
    if strategy.timeframe != timeframe:
        raise WrongTimeframe(f"{strategy_name} runs on {strategy.timeframe}, not on {timeframe}")
    return {strategy_name: _member(strategy, config) if config else Member(strategy=strategy)}


def _member(strategy: Strategy, config: StrategyConfig) -> Member:
    return Member(strategy=strategy, weight=config.weight, assets=frozenset(config.assets))


def current_forecasts(
    *, strategy_name: str, coin_ids: Sequence[str], timeframe: str
) -> list[Forecast]:
    """What a strategy (or the consensus) says at the last closed bar; nothing is stored.

    Errors as in `analyse_history`.
    """
    bar = last_closed(clock.now(), timeframe)
    run = analyse_history(
        strategy_name=strategy_name,
        coin_ids=coin_ids,
        timeframe=timeframe,
        start=bar,
        end=bar + duration(timeframe),
    )
    analyses = {**run.analyses, strategy_name: run.analysis}
    forecasts = forecasts_of_row(
        analyses=analyses, panel=run.panel, market=run.market, row=0, last_said=None
    )
    return [forecast for forecast in forecasts if forecast.strategy == strategy_name]


def due_bars(*, timeframe: str, limit: int) -> list[datetime]:
    """The closed bars that no finished run covers yet, in order, at most `limit`.

    The first ever is the bar whose close is the first at or after the clock's start, else the
    last closed one. None is skipped.
    """
    step = duration(timeframe)
    newest = last_closed(clock.now(), timeframe)
    runs = BarRun.objects.filter(timeframe=timeframe)
    done = runs.filter(state=RunState.DONE).aggregate(last=Max("bar_open_time"))["last"]
    begun = runs.filter(state=RunState.RUNNING).aggregate(first=Min("bar_open_time"))["first"]
    start = clock.current().start
    if done is not None:
        bar = done + step
    elif begun is not None:
        bar = begun
    elif start is not None:
        bar = floor_time(start - step, timeframe)
        bar = bar if bar + step >= start else bar + step
    else:
        bar = newest
    count = max(0, (newest - bar) // step + 1)
    return [bar + index * step for index in range(min(count, limit))]


def waiting_for(
    *,
    instruments: Sequence[Instrument],
    members: Mapping[str, Member],
    timeframe: str,
    bar: datetime,
) -> list[str]:
    """The inputs still to come: coin ids that lack the closed candle, or all history before it,
    and macro series that nobody has looked at since their newest release.

    The far end of the lookback is looked at unless the bar before was complete: at a first start
    the stream may bring the newest candle before the backfill has brought the history that it
    means nothing without.
    """
    step = duration(timeframe)
    strategies = [member.strategy for member in members.values()]
    series = sorted({name for strategy in strategies for name in strategy.macro_series})
    late = macro_is_current(series_ids=series, moment=bar + step)
    late += missing_at(instruments=instruments, timeframe=timeframe, open_time=bar)
    before = BarRun.objects.filter(
        timeframe=timeframe, bar_open_time=bar - step, state=RunState.DONE, is_complete=True
    )
    if late or before.exists():
        return late
    far = bar - max((strategy.lookback for strategy in strategies), default=0) * step
    return missing_at(instruments=instruments, timeframe=timeframe, open_time=far)


def latest_signals() -> QuerySet[Signal]:
    """The newest signal of each strategy, instrument and timeframe: the states wanted now."""
    newest = (
        Signal.objects.filter(
            strategy=OuterRef("strategy"),
            instrument=OuterRef("instrument"),
            timeframe=OuterRef("timeframe"),
        )
        .order_by("-bar_open_time")
        .values("pk")[:1]
    )
    return Signal.objects.filter(pk=Subquery(newest)).select_related("instrument")


def last_said(*, timeframe: str, before: datetime) -> list[Signal]:
    """The newest signal of each strategy and instrument of a timeframe, of bars before one.

    For every instrument and strategy the newest key of the unique index is looked up, so the cost
    does not grow with the table.
    """
    earlier = Signal.objects.filter(
        instrument=OuterRef("pk"), timeframe=timeframe, bar_open_time__lt=before
    ).order_by("-bar_open_time")
    names = [CONSENSUS, *StrategyConfig.objects.values_list("name", flat=True)]
    first, *others = (
        Instrument.objects.order_by().values_list(
            Subquery(earlier.filter(strategy=name).values("pk")[:1])
        )
        for name in names
    )
    newest = first.union(*others, all=True)
    return list(Signal.objects.filter(pk__in=newest).select_related("instrument"))


def initial_states(*, timeframe: str, until: datetime) -> list[InitialState]:
    """How each strategy found each instrument at its first bar, up to and with a bar."""
    states = InitialState.objects.filter(timeframe=timeframe, bar_open_time__lte=until)
    return list(states.select_related("instrument"))


def signals_of_run(*, timeframe: str, bar_open_time: datetime) -> QuerySet[Signal]:
    """The signals of one bar's run, by strategy and instrument."""
    return (
        Signal.objects.filter(timeframe=timeframe, bar_open_time=bar_open_time)
        .select_related("instrument")
        .order_by("strategy", "instrument__coin_id")
    )
