"""What an analysis says at one bar for one instrument, as a value with its reasons. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from signals.consensus import Panel, reasons_at
from signals.driver import INVALID_BARS_PER_BAR
from signals.registry import CONSENSUS
from signals.strategy import Analysis, Forecast, Market, finite_or_none, forecast_at

LOW_RISK = 0.001
MEDIUM_RISK = 0.0025


@dataclass(frozen=True, kw_only=True)
class Stance:
    """A wanted state as it was said: two that are equal ask for the same.

    `stop_loss` is None where there is none, always so when flat.
    """

    direction: int
    stop_loss: float | None


LastSaid = Mapping[tuple[str, str], Stance]  # by strategy and coin id, with the states found


def risk_level(price: float, stop_loss: float | None, position_size: float | None) -> str:
    """low, medium or high by the share of equity lost at the stop: up to 0.1%, 0.25%, above.

    Flat is low; a position without a stop is high.
    """
    if not position_size:
        return "low"
    if stop_loss is None:
        return "high"
    at_risk = position_size * abs(price - stop_loss) / price
    if at_risk <= LOW_RISK:
        return "low"
    return "medium" if at_risk <= MEDIUM_RISK else "high"


def stance_at(analysis: Analysis, row: int, column: int) -> Stance:
    """One cell of an analysis as a stance."""
    direction = int(analysis.direction[row, column])
    stop = finite_or_none(analysis.stop_loss[row, column]) if direction else None
    return Stance(direction=direction, stop_loss=stop)


def settled_instruments(market: Market) -> frozenset[str]:
    """The instruments whose history is there, but for what a row may lack (2%): what they are
    found in is their state, not the want of candles or macro values."""
    usable = market.valid.copy()
    for known in market.macro_known.values():
        usable &= known[:, np.newaxis]
    enough = (~usable).sum(axis=0) * INVALID_BARS_PER_BAR <= len(usable)
    return frozenset(itertools.compress(market.instruments, enough))


def changed_columns(
    analysis: Analysis, row: int, last_said: Sequence[Stance | None]
) -> Iterator[int]:
    """The instruments whose stance at `row` differs from what was last said of them.

    Where that is not known (None) the row before stands in: who begins to listen in the middle of
    a state hears of the next change.
    """
    for column, said in enumerate(last_said):
        before = stance_at(analysis, row - 1, column) if said is None else said
        if stance_at(analysis, row, column) != before:
            yield column


def forecasts_of_row(
    *,
    analyses: Mapping[str, Analysis],
    panel: Panel | None,
    market: Market,
    row: int,
    last_said: LastSaid | None,
) -> list[Forecast]:
    """The forecasts of all strategies, and of the consensus if it is among `analyses`, at a row.

    Only those that differ from what was last said; all of them when `last_said` is None. The
    consensus takes its reasons from `panel`, which ends at the last bar of `market`.
    """
    back = row - len(market.open_time)  # the same bar, counted from the end
    found = []
    for name, analysis in analyses.items():
        columns: Iterable[int] = range(len(market.instruments))
        if last_said is not None:
            said = [last_said.get((name, coin_id)) for coin_id in market.instruments]
            columns = changed_columns(analysis, row, said)
        for column in columns:
            reasons = None
            if name == CONSENSUS and panel is not None:
                reasons = reasons_at(panel, back, column)
            found.append(
                forecast_at(
                    strategy=name,
                    market=market,
                    analysis=analysis,
                    row=row,
                    column=column,
                    reasons=reasons,
                )
            )
    return found


def withdrawal(
    *, strategy: str, coin_id: str, timeframe: str, open_time: datetime, price: float, reason: str
) -> Forecast:
    """Flat, because nobody computes the state any more: what was said must not stand for ever."""
    return Forecast(
        strategy=strategy,
        coin_id=coin_id,
        timeframe=timeframe,
        open_time=open_time,
        direction=0,
        confidence=0.0,
        price=price,
        stop_loss=None,
        take_profit=None,
        position_size=None,
        reasons={"withdrawn": reason},
    )


def market_context(
    market: Market | None, analyses: Mapping[str, Analysis], row: int
) -> dict[str, Any]:
    """The VIX known at a row, and bitcoin's correlation with it; None where not known, too old to
    be believed, or not computed."""
    context: dict[str, Any] = {"vix_level": None, "correlation_btc_vix": None}
    if market is None or "VIXCLS" not in market.macro or not market.macro_known["VIXCLS"][row]:
        return context
    context["vix_level"] = finite_or_none(market.macro["VIXCLS"][row])
    if "bitcoin" in market.instruments:
        column = market.instruments.index("bitcoin")
        for analysis in analyses.values():
            if market.valid[row, column] and "correlation_30d" in analysis.diagnostics:
                found = analysis.diagnostics["correlation_30d"][row, column]
                context["correlation_btc_vix"] = finite_or_none(found)
                break
    return context
