"""What an analysis says at one bar for one instrument, as a value with its reasons. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from collectors.marketdata import duration, from_ms
from signals.aggregation import is_resolved, vote_strength
from signals.registry import CONSENSUS
from signals.strategy import INVALID_BARS_PER_BAR, Analysis, Market

EXPIRY_BARS = 2
LOW_RISK = 0.001
MEDIUM_RISK = 0.0025


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The wanted state of one instrument at one closed bar.

    `price` is the bar's close and `closed_at` its close time (market time); stop, take-profit and
    size (a fraction of equity) are None where there is none, always so when flat.
    """

    strategy: str
    coin_id: str
    timeframe: str
    open_time: datetime
    direction: int
    confidence: float
    price: float
    stop_loss: float | None
    take_profit: float | None
    position_size: float | None
    reasons: Mapping[str, Any]

    @property
    def closed_at(self) -> datetime:
        """The bar's close time: the forecast exists from then on."""
        return self.open_time + duration(self.timeframe)

    @property
    def expires_at(self) -> datetime:
        """When the forecast is too old to act on: two bars after the close."""
        return self.closed_at + EXPIRY_BARS * duration(self.timeframe)


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
    stop = _price(analysis.stop_loss[row, column]) if direction else None
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


def forecast_at(
    *,
    strategy: str,
    market: Market,
    analysis: Analysis,
    row: int,
    column: int,
    reasons: Mapping[str, Any] | None = None,
) -> Forecast:
    """One cell of an analysis; `reasons` default to its diagnostics."""
    direction = int(analysis.direction[row, column])
    return Forecast(
        strategy=strategy,
        coin_id=market.instruments[column],
        timeframe=market.timeframe,
        open_time=from_ms(int(market.open_time[row])),
        direction=direction,
        confidence=float(analysis.confidence[row, column]),
        price=float(market.close[row, column]),
        stop_loss=_price(analysis.stop_loss[row, column]),
        take_profit=_price(analysis.take_profit[row, column]),
        position_size=float(analysis.position_size[row, column]) if direction else None,
        reasons=_diagnostics(analysis, row, column) if reasons is None else reasons,
    )


def consensus_reasons(
    analyses: Mapping[str, Analysis], weights: Mapping[str, float], row: int, column: int
) -> dict[str, Any]:
    """Who voted what with which weight, the sums, and the rule that decided."""
    votes = {}
    sums = {1: 0.0, 0: 0.0, -1: 0.0}
    for name in sorted(analyses):
        direction = int(analyses[name].direction[row, column])
        confidence = float(analyses[name].confidence[row, column])
        vote = vote_strength(direction, confidence, weights[name])
        sums[direction] += vote
        votes[name] = {
            "direction": direction,
            "confidence": confidence,
            "weight": weights[name],
            "vote": vote,
        }
    voters = sum(vote["direction"] != 0 for vote in votes.values())
    rule = {0: "all flat", 1: "single"}.get(voters, "consensus")
    if is_resolved(voters, sums[1], sums[-1]):
        rule = "strongest"
    return {"votes": votes, "long_votes": sums[1], "short_votes": sums[-1], "rule": rule}


def forecasts_of_row(
    *,
    analyses: Mapping[str, Analysis],
    weights: Mapping[str, float],
    market: Market,
    row: int,
    last_said: LastSaid | None,
) -> list[Forecast]:
    """The forecasts of all strategies, and of the consensus if it is among `analyses`, at a row.

    Only those that differ from what was last said; all of them when `last_said` is None.
    """
    voters = {name: analysis for name, analysis in analyses.items() if name != CONSENSUS}
    found = []
    for name, analysis in analyses.items():
        columns: Iterable[int] = range(len(market.instruments))
        if last_said is not None:
            said = [last_said.get((name, coin_id)) for coin_id in market.instruments]
            columns = changed_columns(analysis, row, said)
        for column in columns:
            reasons = consensus_reasons(voters, weights, row, column) if name == CONSENSUS else None
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


def _diagnostics(analysis: Analysis, row: int, column: int) -> dict[str, float | None]:
    return {name: _price(values[row, column]) for name, values in analysis.diagnostics.items()}


def _price(value: float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
