"""One voice out of several strategies: the rules, scalar by scalar, and the loop over rows. Pure.

The scalar functions are plain Python that Numba compiles to the same bits (no `**`, no NumPy calls
on scalars). A vote is `weight x confidence` of a strategy that is not flat.

1. Nobody votes: flat. Exactly one votes: its state passes through.
2. Consensus: a side that holds at least 60% of all votes wins; its confidence is the mean of its
   voters' confidences, weighted by their weights.
3. No consensus: the single strongest vote decides with its own confidence if it reaches 0.5, else
   flat.

Stop, take-profit and size are always those of the winning side's strongest voter, whole, never a
mixture of several strategies' prices. Of equal votes the earlier strategy (by name) is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from signals.strategy import Analysis

CONSENSUS_SHARE = 0.6
RESOLUTION_FLOOR = 0.5
DIAGNOSTICS = ("long_votes", "short_votes")


def vote_strength(direction: int, confidence: float, weight: float) -> float:
    """The vote of one strategy: 0 when it is flat."""
    if direction == 0:
        return 0.0
    return weight * confidence


def winning_direction(
    voters: int, long_votes: float, short_votes: float, strongest_direction: int, strongest: float
) -> int:
    """The common state: -1, 0 or 1. `voters` counts the strategies that are not flat."""
    if voters <= 1:
        return strongest_direction
    total = long_votes + short_votes
    if long_votes > 0.0 and long_votes >= CONSENSUS_SHARE * total:
        return 1
    if short_votes > 0.0 and short_votes >= CONSENSUS_SHARE * total:
        return -1
    if strongest >= RESOLUTION_FLOOR:
        return strongest_direction
    return 0


def is_resolved(voters: int, long_votes: float, short_votes: float) -> bool:
    """Whether there was no consensus, so that the strongest vote alone had to decide."""
    total = long_votes + short_votes
    share = CONSENSUS_SHARE * total
    return voters > 1 and long_votes < share and short_votes < share


def common_confidence(resolved: bool, strongest: float, votes: float, weights: float) -> float:
    """The confidence of the winning side: its strongest voter's own when resolved, else the
    weighted mean of its voters, whose votes and weights are given as sums."""
    if resolved:
        return strongest
    if weights <= 0.0:
        return 0.0
    mean = votes / weights
    if mean > 1.0:  # a quotient of sums may exceed its terms by a rounding
        return 1.0
    return mean


def aggregate(analyses: Mapping[str, Analysis], weights: Mapping[str, float]) -> Analysis:
    """The consensus of all strategies' analyses (each B x K) at every bar.

    Strategies are taken in the order of their names, so the sums do not depend on the caller.
    Raises ValueError when there is no analysis, or a weight is missing.
    """
    names = sorted(analyses)
    if not names:
        raise ValueError("nothing to aggregate")
    members = [analyses[name] for name in names]
    member_weights = [weights[name] for name in names]
    shape = members[0].direction.shape
    result = Analysis(
        direction=np.zeros(shape, dtype=np.int8),
        confidence=np.zeros(shape),
        stop_loss=np.full(shape, np.nan),
        take_profit=np.full(shape, np.nan),
        position_size=np.zeros(shape),
        diagnostics={name: np.zeros(shape) for name in DIAGNOSTICS},
    )
    anyone = np.zeros(shape, dtype=np.bool_)
    for member in members:
        anyone |= member.direction != 0
    for bar, column in np.argwhere(anyone):
        _aggregate_cell(members, member_weights, int(bar), int(column), result)
    return result


def _aggregate_cell(
    members: Sequence[Analysis], weights: Sequence[float], bar: int, column: int, result: Analysis
) -> None:
    votes = [0.0, 0.0, 0.0]  # by direction + 1: short, flat, long
    weight_sums = [0.0, 0.0, 0.0]
    best = [-1, -1, -1]
    best_vote = [-1.0, -1.0, -1.0]
    voters = 0
    for index, member in enumerate(members):
        direction = int(member.direction[bar, column])
        if direction == 0:
            continue
        vote = vote_strength(direction, float(member.confidence[bar, column]), weights[index])
        side = direction + 1
        voters += 1
        votes[side] += vote
        weight_sums[side] += weights[index]
        if vote > best_vote[side]:
            best[side], best_vote[side] = index, vote
    strongest = 1 if best_vote[2] >= best_vote[0] else -1
    winner = winning_direction(
        voters, votes[2], votes[0], strongest, max(best_vote[2], best_vote[0])
    )
    result.diagnostics["long_votes"][bar, column] = votes[2]
    result.diagnostics["short_votes"][bar, column] = votes[0]
    if winner == 0:
        return
    side = winner + 1
    leader = members[best[side]]
    own = float(leader.confidence[bar, column])
    resolved = is_resolved(voters, votes[2], votes[0])
    result.direction[bar, column] = winner
    result.confidence[bar, column] = common_confidence(
        resolved, own, votes[side], weight_sums[side]
    )
    result.stop_loss[bar, column] = leader.stop_loss[bar, column]
    result.take_profit[bar, column] = leader.take_profit[bar, column]
    result.position_size[bar, column] = leader.position_size[bar, column]
