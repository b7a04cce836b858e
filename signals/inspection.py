"""One strategy over a stretch of one instrument's history, as people and programs look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import structlog
from django.db import DatabaseError

from collectors import clock
from collectors.marketdata import duration, floor_time, last_closed
from collectors.selectors import strategy_instruments
from signals.catalog import facts_of
from signals.models import Signal
from signals.registry import CONSENSUS, STRATEGIES, UnknownStrategy
from signals.selectors import HistoryRun, NothingEnabled, analyse_history
from signals.strategy import BoolArray, DirectionArray, FloatArray, IntArray

log = structlog.get_logger(__name__)

MOST_BARS = 90 * 24
USUAL_BARS = 30 * 24
EARLIEST = datetime(2009, 1, 3, tzinfo=UTC)  # bitcoin's first block: no market is older


class InspectionError(Exception):
    """There is nothing to show; the text says why.

    InspectionError
      +- InspectionRefused   what was asked for does not exist or is too much; `field` names it
      +- InspectionFailed    the strategy's own fault
    """


class InspectionRefused(InspectionError):
    """What was asked for cannot be shown; `field` is strategy, instrument, start or end."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class InspectionFailed(InspectionError):
    """The strategy raised, or cannot be run with its stored parameters."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """B bars of one instrument, oldest first, with what the strategy says at each and said.

    All arrays are (B,). `values` are the outputs of the analysis in floats (confidence, stop_loss,
    take_profit, position_size), `diagnostics` what it was decided by; of the consensus these also
    hold each strategy's direction x confidence. `signals` are the stored ones, oldest first.
    """

    strategy: str
    coin_id: str
    timeframe: str
    open_time: IntArray  # epoch milliseconds
    candles: Mapping[str, FloatArray]  # open, high, low, close, volume
    valid: BoolArray
    direction: DirectionArray
    values: Mapping[str, FloatArray]
    diagnostics: Mapping[str, FloatArray]
    signals: Sequence[Signal]


def strategy_timeframe(name: str) -> str:
    """A strategy's timeframe; for the consensus that of the first strategy. Raises
    UnknownStrategy."""
    return facts_of(next(iter(STRATEGIES)) if name == CONSENSUS else name).timeframe


def offered_coins() -> list[str]:
    """The coin ids that strategies see now."""
    return [instrument.coin_id for instrument in strategy_instruments(at=clock.now())]


def inspect_strategy(
    *, strategy_name: str, coin_id: str, start: datetime | None = None, end: datetime | None = None
) -> Inspection:
    """What a strategy (or the consensus) says at the bars opening in [start, end), with its
    stored parameters, as a bar run says it.

    By default the last 30 days of hourly bars, or as many bars of another timeframe. Raises
    InspectionRefused and InspectionFailed.
    """
    try:
        timeframe = strategy_timeframe(strategy_name)
    except UnknownStrategy as error:
        raise InspectionRefused("strategy", str(error)) from None
    since, until = _bounds(timeframe, start, end)
    if coin_id not in offered_coins():
        raise InspectionRefused("instrument", f"{coin_id!r} is not offered to strategies")
    run = _run(strategy_name, coin_id, timeframe, since, until)
    column = run.market.column(coin_id)
    if not run.market.valid[:, column].any():
        text = f"no {timeframe} candle from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}"
        raise InspectionRefused("instrument", f"{coin_id} has {text}")
    signals = Signal.objects.filter(
        strategy=strategy_name,
        instrument__coin_id=coin_id,
        timeframe=timeframe,
        bar_open_time__gte=since,
        bar_open_time__lt=until,
    )
    stored = list(signals.select_related("instrument", "outcome").order_by("bar_open_time"))
    return _inspection(strategy_name, coin_id, run, column, stored)


def _bounds(
    timeframe: str, start: datetime | None, end: datetime | None
) -> tuple[datetime, datetime]:
    """The range on the grid, ended at the last closed bar. Raises InspectionRefused."""
    step = duration(timeframe)
    newest = last_closed(clock.now(), timeframe) + step
    for field, moment in (("start", start), ("end", end)):
        if moment is not None and moment < EARLIEST:
            raise InspectionRefused(field, f"there is no market before {EARLIEST:%Y-%m-%d}")
    until = newest if end is None or end >= newest else _ceiled(end, timeframe)
    since = until - USUAL_BARS * step if start is None else floor_time(start, timeframe)
    if since >= until:
        raise InspectionRefused("start", f"no closed bar from {since:%Y-%m-%d %H:%M} on")
    if (until - since) // step > MOST_BARS:
        days = MOST_BARS * step / timedelta(days=1)
        raise InspectionRefused("start", f"at most {MOST_BARS} bars ({days:g} days) at once")
    return since, until


def _ceiled(moment: datetime, timeframe: str) -> datetime:
    floored = floor_time(moment, timeframe)
    return floored if floored == moment else floored + duration(timeframe)


def _run(name: str, coin_id: str, timeframe: str, start: datetime, end: datetime) -> HistoryRun:
    try:
        return analyse_history(
            strategy_name=name, coin_ids=[coin_id], timeframe=timeframe, start=start, end=end
        )
    except NothingEnabled as error:
        raise InspectionRefused("strategy", str(error)) from None
    except DatabaseError:
        raise
    except Exception as error:  # a strategy may raise anything
        log.exception("strategy_failed", strategy=name, start=start.isoformat())
        raise InspectionFailed(f"{name}: {type(error).__name__}: {error}"[:500]) from error


def _inspection(
    name: str, coin_id: str, run: HistoryRun, column: int, signals: Sequence[Signal]
) -> Inspection:
    market, analysis = run.market, run.analysis
    diagnostics = {key: array[:, column] for key, array in analysis.diagnostics.items()}
    if name == CONSENSUS:
        for voter, said in run.analyses.items():
            diagnostics[voter] = said.direction[:, column] * said.confidence[:, column]
    fields = ("confidence", "stop_loss", "take_profit", "position_size")
    return Inspection(
        strategy=name,
        coin_id=coin_id,
        timeframe=market.timeframe,
        open_time=market.open_time,
        candles={
            "open": market.open[:, column],
            "high": market.high[:, column],
            "low": market.low[:, column],
            "close": market.close[:, column],
            "volume": np.where(
                market.volume_source[:, column] > 0, market.volume[:, column], np.nan
            ),
        },
        valid=market.valid[:, column],
        direction=analysis.direction[:, column],
        values={key: getattr(analysis, key)[:, column] for key in fields},
        diagnostics=diagnostics,
        signals=signals,
    )
