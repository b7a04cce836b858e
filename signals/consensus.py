"""The consensus at every bar: gathers what decides it, and says afterwards why. Pure.

A consensus row depends on the LEAD_BARS rows of its members before it, which are rows of the pinned
driver, and on the MARKET_LEAD_BARS bars of the market before it. All evidence over these is made of
whole numbers (`signals.evidence`), so that a row is the same to the last bit when it alone is
wanted and in years of history; it needs no pinned start of its own. It depends on no other
instrument than its own, but through the members.

    panel = panel_of(market=market, analyses=analyses, weights=weights)
    analysis = consensus_of(panel, rows)       # the last `rows` rows
    reasons = reasons_at(panel, row, column)   # of one cell, counted back from the end: row < 0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signals import aggregation
from signals.aggregation import RECORD_ROWS, RULES, WINDOW, decide, effective_weight
from signals.compiled import compiled_decisions
from signals.evidence import StateArray, evidence_of
from signals.regime import REGIME_BARS, REGIMES, RegimeArray, bar_returns, regimes
from signals.strategy import Analysis, BoolArray, FloatArray, IntArray, Market

LEAD_BARS = WINDOW
MARKET_LEAD_BARS = WINDOW + REGIME_BARS
PLAIN_CELLS = 5_000  # up to here plain Python is done before Numba would be imported
LeaderArray = NDArray[np.int16]  # which strategy, -1 for none
DIAGNOSTICS = ("long_votes", "short_votes", "rule", "regime")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """S strategies in the order of their names, and what they are judged by, time last.

    All arrays end at the same bar and begin LEAD_BARS or more before the first row wanted.
    """

    analyses: Mapping[str, Analysis]  # in the order of their names
    weights: FloatArray  # (S,)
    states: StateArray  # (S, K, B)
    returns: IntArray  # (K, B)
    regime: RegimeArray  # (K, B)


def panel_of(
    *, market: Market, analyses: Mapping[str, Analysis], weights: Mapping[str, float]
) -> Panel:
    """The strategies of a consensus over a market, which may begin before the analyses.

    They are taken in the order of their names, so that no sum depends on the caller. Raises
    ValueError when there is no analysis, a weight is missing, negative or not finite, or the
    analyses do not end with the market.
    """
    names = sorted(analyses)
    if not names:
        raise ValueError("nothing to aggregate")
    unweighted = [name for name in names if not 0.0 <= weights.get(name, -1.0) < np.inf]
    if unweighted:
        raise ValueError(f"no usable weight: {', '.join(unweighted)}")
    shapes = {analyses[name].direction.shape for name in names}
    bars, columns = shapes.pop()
    if shapes or columns != len(market.instruments) or bars > len(market.open_time):
        raise ValueError("the analyses are not aligned with each other and the market")
    returns = bar_returns(market)
    first = len(market.open_time) - bars
    return Panel(
        analyses={name: analyses[name] for name in names},
        weights=np.array([weights[name] for name in names], dtype=np.float64),
        states=np.array([np.ascontiguousarray(analyses[name].direction.T) for name in names]),
        returns=returns[:, first:],
        regime=regimes(returns)[:, first:],
    )


def consensus_of(panel: Panel, rows: int) -> Analysis:
    """The consensus at the last `rows` bars (rows x K).

    Raises ValueError when less than LEAD_BARS rows of the members lie before them.
    """
    _check_lead(panel, rows)
    shape = (rows, len(panel.returns))
    result = Analysis(
        direction=np.zeros(shape, dtype=np.int8),
        confidence=np.zeros(shape),
        stop_loss=np.full(shape, np.nan),
        take_profit=np.full(shape, np.nan),
        position_size=np.zeros(shape),
        diagnostics={name: np.zeros(shape) for name in DIAGNOSTICS},
    )
    result.diagnostics["regime"][:] = panel.regime[:, panel.regime.shape[1] - rows :].T
    wanted = np.any(panel.states[:, :, panel.states.shape[2] - rows :] != 0, axis=0)
    leader = np.full(shape, -1, dtype=np.int16)
    if wanted.sum() > PLAIN_CELLS:
        _decide_columns(panel, rows, result, leader)
    elif wanted.any():
        _decide_cells(panel, wanted, result, leader)
    _follow(panel, leader, result)
    return result


def reasons_at(panel: Panel, row: int, column: int) -> dict[str, Any]:
    """Why the consensus is what it is at a bar (-1 the last) for an instrument, for JSON.

    `votes` holds for each strategy its direction, confidence, weight, `effective_weight` after the
    correlation filter, vote, and its factors and score, which decide where no side has a consensus.
    """
    bars = panel.returns.shape[1]
    stop = bars + row + 1 if row < 0 else row + 1
    _check_lead(panel, bars - stop + 1)
    cut = slice(stop - WINDOW - 1, stop)
    evidence = evidence_of(
        panel.states[:, column : column + 1, cut],
        panel.returns[column : column + 1, cut],
        panel.regime[column : column + 1, cut],
        np.ones((1, 1), dtype=np.bool_),
    )
    directions = panel.states[:, column, stop - 1].tolist()
    analyses = panel.analyses.values()
    confidences = [float(analysis.confidence[stop - 1, column]) for analysis in analyses]
    weights = panel.weights.tolist()
    shared, records = evidence.shared[0].tolist(), evidence.records[0].tolist()
    rule, direction, _, leader, long_votes, short_votes = decide(
        directions, confidences, weights, shared, records
    )
    names = list(panel.analyses)
    votes = {}
    for index, name in enumerate(names):
        votes[name] = _vote(index, directions, confidences, weights, shared, records)
    return {
        "rule": RULES[rule],
        "direction": direction,
        "leader": names[leader] if leader >= 0 else None,
        "long_votes": long_votes,
        "short_votes": short_votes,
        "regime": REGIMES[int(panel.regime[column, stop - 1])],
        "votes": votes,
    }


def _vote(
    index: int,
    directions: list[int],
    confidences: list[float],
    weights: list[float],
    shared: list[int],
    records: list[int],
) -> dict[str, Any]:
    found = {
        "direction": directions[index],
        "confidence": confidences[index],
        "weight": weights[index],
        "effective_weight": 0.0,
        "vote": 0.0,
    }
    net, moved, bars, net_here, moved_here, bars_here = records[index :: len(directions)]
    found["performance"] = aggregation.performance_factor(net, moved, bars)
    found["regime"] = aggregation.regime_factor(net_here, moved_here, bars_here, net, moved)
    if directions[index] != 0 and weights[index] > 0.0:
        effective = effective_weight(index, directions, weights, shared)
        found["effective_weight"] = effective
        found["vote"] = aggregation.vote_strength(confidences[index], effective)
        found["score"] = aggregation.voter_score(index, confidences[index], records)
    return found


def _check_lead(panel: Panel, rows: int) -> None:
    bars = panel.returns.shape[1]
    if bars < rows + LEAD_BARS:
        raise ValueError(f"{rows} rows need {LEAD_BARS} before them, given {bars} in all")


def _decide_cells(panel: Panel, wanted: BoolArray, result: Analysis, leader: LeaderArray) -> None:
    """Fill the result at the cells of `wanted` (K, R), in plain Python."""
    column, row = np.nonzero(wanted)
    bar = row + panel.returns.shape[1] - wanted.shape[1]
    evidence = evidence_of(panel.states, panel.returns, panel.regime, wanted)
    analyses = panel.analyses.values()
    confidences = np.array([analysis.confidence[bar, column] for analysis in analyses])
    cells = zip(
        panel.states[:, column, bar].T.tolist(),
        confidences.T.tolist(),
        evidence.shared.tolist(),
        evidence.records.tolist(),
        strict=True,
    )
    weights = panel.weights.tolist()
    decided = [
        decide(directions, values, weights, shared, records)
        for directions, values, shared, records in cells
    ]
    _fill(row, column, np.array(decided, dtype=np.float64).T, result, leader)


def _decide_columns(panel: Panel, rows: int, result: Analysis, leader: LeaderArray) -> None:
    """Fill the result column by column, compiled."""
    decide_column = compiled_decisions()
    count = len(panel.states)
    for column in range(len(panel.returns)):
        states = np.ascontiguousarray(panel.states[:, column])
        if not states[:, -rows:].any():
            continue
        analyses = panel.analyses.values()
        decided = np.empty((6, rows))
        decide_column(
            states,
            np.array([analysis.confidence[-rows:, column] for analysis in analyses]),
            panel.weights,
            np.ascontiguousarray(panel.returns[column]),
            np.ascontiguousarray(panel.regime[column]),
            np.zeros(count * count, dtype=np.int64),
            np.zeros((len(REGIMES) + 1, 3 * count), dtype=np.int64),
            np.zeros(RECORD_ROWS * count, dtype=np.int64),
            decided,
        )
        _fill(slice(None), column, decided, result, leader)


def _fill(
    row: IntArray | slice,
    column: IntArray | int,
    decided: FloatArray,
    result: Analysis,
    leader: LeaderArray,
) -> None:
    """Put the answers of `decide` (6, N) into the cells of a result."""
    result.diagnostics["rule"][row, column] = decided[0]
    result.direction[row, column] = decided[1]
    result.confidence[row, column] = decided[2]
    leader[row, column] = decided[3]
    result.diagnostics["long_votes"][row, column] = decided[4]
    result.diagnostics["short_votes"][row, column] = decided[5]


def _follow(panel: Panel, leader: LeaderArray, result: Analysis) -> None:
    """Take stop, target and size from each cell's leader."""
    lead = panel.returns.shape[1] - len(leader)
    for index, analysis in enumerate(panel.analyses.values()):
        led = leader == index
        np.copyto(result.stop_loss, analysis.stop_loss[lead:], where=led)
        np.copyto(result.take_profit, analysis.take_profit[lead:], where=led)
        np.copyto(result.position_size, analysis.position_size[lead:], where=led)
