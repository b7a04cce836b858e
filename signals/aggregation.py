"""One voice out of several strategies, at one bar: the rules, scalar by scalar. Pure.

Plain Python on numbers, which Numba compiles to the same bits (no `**`, no NumPy): `decide` runs as
it is at a live bar; over long histories `decide_column` runs compiled (`signals.compiled`).
`signals.consensus` gives the arguments.

A strategy with a direction and a weight above 0 votes. By the number of voters and what they say:

1. Nobody votes: flat. Exactly one votes: its state passes through untouched.
2. Correlation filter: a voter keeps of its weight the share that it holds of its idea. Its idea is
   made of the voters of its side, each with its weight times the overlap of the two: how far their
   agreement over the window exceeds `OVERLAP_FROM`, 0 to 1. Ten copies together weigh as one; who
   agrees with nobody keeps its weight; a copy of hardly any weight takes hardly any from others.
   A vote is effective weight x confidence.
3. Consensus: a side that holds at least 60% of all votes wins. Its confidence is the mean of its
   voters', by effective weights. Its leader is the voter of the largest weight x confidence, before
   the filter: who leads does not change when an idea is copied.
4. No consensus: each voter is scored by performance x regime x confidence, and the highest score
   decides, with its own confidence, if it reaches 0.5; else flat. Flat also when two sides share
   the highest score to the last bit: there is no reason to prefer one.

Performance is how far a strategy is ahead of chance in its instrument over the window, in typical
moves, shrunk towards 1.0 where it held a state at few bars; regime is how much more it is ahead in
bars of the present regime than in all. Both lie in (0.5, 1.5), so without a history the score is
the confidence. Copies cannot add up here: one voter decides.

Stop, take-profit and size are those of the leader, whole, never a mixture of several strategies'
prices. Of equal ones the earlier (by name) is taken. Nothing depends on the unit of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

WINDOW = 720  # bars that a decision looks back on: 30 days of hourly ones
CONSENSUS_SHARE = 0.6
ROUNDING = 1e-12  # of all votes: less than that is what adding them up loses
RESOLUTION_FLOOR = 0.5
OVERLAP_FROM = 0.5  # agreement up to here is what unlike rules have in common in a trend
PRIOR_BARS = 72  # of chance, added to every record: three days of hourly bars
HALF_WAY_EDGE = 3.0  # the edge at which a factor is half way to its bound
FACTOR_REACH = 0.5

# The rules that can decide, as `decide` numbers them.
ALL_FLAT, SINGLE, CONSENSUS, RESOLVED, BELOW_FLOOR, TIED = range(6)
RULES = ("all flat", "single", "consensus", "resolved", "below the floor", "tied")

# The rows of a cell's records, each a whole number per strategy: the sum of what it gained and lost
# in the window, the sum of the moves it was exposed to, the bars at which it held a state; and the
# same of those bars of the window that were of the present regime.
NET, MOVED, BARS, NET_HERE, MOVED_HERE, BARS_HERE = range(6)
RECORD_ROWS = 6

Numbers = Sequence[Any]  # a list, or an array of one dimension


def overlap(shared: int, active: int, other_active: int) -> float:
    """How far two voters are one idea: 0 for those who agree little, growing to 1 for copies.

    `shared` is the sum of the products of their directions, `active` counts the bars of each; their
    agreement is the cosine of the two. Without a jump at OVERLAP_FROM, so that one bar more or less
    in the window changes little.
    """
    if shared <= 0:
        return 0.0
    agreement = shared / math.sqrt(active * other_active)
    if agreement <= OVERLAP_FROM:
        return 0.0
    return (agreement - OVERLAP_FROM) / (1.0 - OVERLAP_FROM)


def effective_weight(index: int, directions: Numbers, weights: Numbers, shared: Numbers) -> float:
    """The weight of voter `index` after the correlation filter."""
    count = len(directions)
    weight = float(weights[index])
    idea = weight
    for other in range(count):
        if other == index or directions[other] != directions[index] or weights[other] <= 0.0:
            continue
        alike = overlap(
            shared[index * count + other],
            shared[index * count + index],
            shared[other * count + other],
        )
        idea += alike * weights[other]
    return weight * (weight / idea)


def vote_strength(confidence: float, effective: float) -> float:
    """What a voter adds to the votes of its side."""
    return effective * confidence


def edge(net: float, moved: float, bars: int) -> float:
    """How far `net` is ahead of chance: in typical moves, by the root of the bars it took.

    For a rule that knows nothing it is spread like a standard normal, and closer to 0 where the
    bars are few beside PRIOR_BARS. 0 where nothing moved.
    """
    if bars <= 0 or moved <= 0.0:
        return 0.0
    return (net * bars) / (moved * math.sqrt(bars + PRIOR_BARS))


def factor(ahead: float) -> float:
    """An edge as a factor between 0.5 and 1.5, 1.0 for none."""
    return 1.0 + FACTOR_REACH * (ahead / (abs(ahead) + HALF_WAY_EDGE))


def performance_factor(net: int, moved: int, bars: int) -> float:
    """The factor of a strategy's gains in the window."""
    return factor(edge(float(net), float(moved), bars))


def regime_factor(net_here: int, moved_here: int, bars_here: int, net: int, moved: int) -> float:
    """The factor of what it gained in the present regime beyond its gains on the whole.

    1.0 for a strategy that earns the same share of what moves in every regime.
    """
    if moved <= 0:
        return 1.0
    expected = net * (moved_here / moved)
    return factor(edge(net_here - expected, float(moved_here), bars_here))


def resolution_score(performance: float, regime: float, confidence: float) -> float:
    """What decides without a consensus."""
    return performance * regime * confidence


def voter_score(index: int, confidence: float, records: Numbers) -> float:
    """The resolution score of voter `index`."""
    count = len(records) // RECORD_ROWS
    net, moved = records[NET * count + index], records[MOVED * count + index]
    performance = performance_factor(net, moved, records[BARS * count + index])
    regime = regime_factor(
        records[NET_HERE * count + index],
        records[MOVED_HERE * count + index],
        records[BARS_HERE * count + index],
        net,
        moved,
    )
    return resolution_score(performance, regime, confidence)


def strongest(
    directions: Numbers, confidences: Numbers, weights: Numbers, records: Numbers
) -> tuple[int, float, bool]:
    """The voter of the highest score, its score, and whether the other side has the same."""
    leader, best, is_tied = -1, -1.0, False
    for index in range(len(directions)):
        if directions[index] == 0 or weights[index] <= 0.0:
            continue
        score = voter_score(index, float(confidences[index]), records)
        if score > best:
            leader, best, is_tied = index, score, False
        elif score == best and directions[index] != directions[leader]:
            is_tied = True
    return leader, best, is_tied


def tally(
    side: int, directions: Numbers, confidences: Numbers, weights: Numbers, shared: Numbers
) -> tuple[int, int, float, float, float, float]:
    """(voters, leader, votes, effective weights, lowest, highest confidence) of a side, 1 or -1.

    The leader is the voter of the largest weight x confidence, -1 where there is none.
    """
    voters, leader, best = 0, -1, -1.0
    votes, total, lowest, highest = 0.0, 0.0, 1.0, 0.0
    for index in range(len(directions)):
        if directions[index] != side or weights[index] <= 0.0:
            continue
        effective = effective_weight(index, directions, weights, shared)
        confidence = float(confidences[index])
        voters += 1
        votes += vote_strength(confidence, effective)
        total += effective
        if confidence < lowest:
            lowest = confidence
        if confidence > highest:
            highest = confidence
        if weights[index] * confidence > best:
            leader, best = index, weights[index] * confidence
    return voters, leader, votes, total, lowest, highest


def consensus_direction(long_votes: float, short_votes: float) -> int:
    """The side that holds at least 60% of all votes: -1 or 1, or 0 when none does."""
    share = (CONSENSUS_SHARE - ROUNDING) * (long_votes + short_votes)
    if long_votes > 0.0 and long_votes >= share:
        return 1
    if short_votes > 0.0 and short_votes >= share:
        return -1
    return 0


def common_confidence(votes: float, total: float, lowest: float, highest: float) -> float:
    """The weighted mean of a side's confidences, never outside of them by a rounding."""
    mean = votes / total
    if mean < lowest:
        return lowest
    if mean > highest:
        return highest
    return mean


def decide(
    directions: Numbers, confidences: Numbers, weights: Numbers, shared: Numbers, records: Numbers
) -> tuple[int, int, float, int, float, float]:
    """(rule, direction, confidence, leader, long votes, short votes) of one instrument and bar.

    S strategies in the order of their names: `directions`, `confidences`, `weights` (S,), `shared`
    (S x S,) the sums of the products of their directions over the window, row by row (the diagonal
    counts the bars at which each was active), `records` (RECORD_ROWS x S,). Tables are flat because
    Numba would count references for each row that is taken. The leader is -1 where flat.
    """
    longs, long_leader, long_votes, long_total, long_low, long_high = tally(
        1, directions, confidences, weights, shared
    )
    shorts, short_leader, short_votes, short_total, short_low, short_high = tally(
        -1, directions, confidences, weights, shared
    )
    if longs + shorts == 0:
        return ALL_FLAT, 0, 0.0, -1, 0.0, 0.0
    if longs + shorts == 1:
        leader = max(long_leader, short_leader)
        side = 1 if longs == 1 else -1
        return SINGLE, side, float(confidences[leader]), leader, long_votes, short_votes
    winner = consensus_direction(long_votes, short_votes)
    if winner == 1:
        confidence = common_confidence(long_votes, long_total, long_low, long_high)
        return CONSENSUS, 1, confidence, long_leader, long_votes, short_votes
    if winner == -1:
        confidence = common_confidence(short_votes, short_total, short_low, short_high)
        return CONSENSUS, -1, confidence, short_leader, long_votes, short_votes
    leader, score, is_tied = strongest(directions, confidences, weights, records)
    if score < RESOLUTION_FLOOR:
        return BELOW_FLOOR, 0, 0.0, -1, long_votes, short_votes
    if is_tied:
        return TIED, 0, 0.0, -1, long_votes, short_votes
    side = 1 if directions[leader] > 0 else -1
    return RESOLVED, side, float(confidences[leader]), leader, long_votes, short_votes


def slide(
    bar: int, sign: int, states: Any, returns: Any, regimes: Any, shared: Any, sums: Any
) -> None:
    """Add (`sign` 1) a bar to the running sums, or take it out of them (-1).

    `states` (S, B), `returns` and `regimes` (B,); `shared` (S x S,) as `decide` takes it; `sums`
    (regimes + 1, 3 x S) NET, MOVED and BARS of the moves met in each regime, and in the last row
    of all.
    """
    count = len(states)
    met_in, of_all = regimes[bar - 1], len(sums) - 1
    for index in range(count):
        state = int(states[index, bar])
        if state != 0:
            shared[index * count + index] += sign
            for other in range(index):
                product = sign * state * int(states[other, bar])
                shared[index * count + other] += product
                shared[other * count + index] += product
        held = int(states[index, bar - 1])
        if held != 0:
            gained = sign * held * int(returns[bar])
            moved = sign * abs(gained)
            sums[met_in, NET * count + index] += gained
            sums[met_in, MOVED * count + index] += moved
            sums[met_in, BARS * count + index] += sign
            sums[of_all, NET * count + index] += gained
            sums[of_all, MOVED * count + index] += moved
            sums[of_all, BARS * count + index] += sign


def decide_column(
    states: Any,
    confidences: Any,
    weights: Any,
    returns: Any,
    regimes: Any,
    shared: Any,
    sums: Any,
    records: Any,
    decided: Any,
) -> None:
    """`decide` at the last R bars of one instrument: what is compiled for long histories.

    `states` (S, B), `returns` and `regimes` (B,) with B at least R + WINDOW, `confidences` (S, R),
    `weights` (S,). `decided` (6, R) is filled with the answers as float64; `shared` (S x S,),
    `sums` (regimes + 1, 3 x S) and `records` (RECORD_ROWS x S,), all zero, are its scratch paper.
    """
    count, rows = len(states), decided.shape[1]
    lead = states.shape[1] - rows
    for bar in range(lead - WINDOW + 1, lead):
        slide(bar, 1, states, returns, regimes, shared, sums)
    for row in range(rows):
        bar = lead + row
        slide(bar, 1, states, returns, regimes, shared, sums)
        for place in range(3 * count):
            records[place] = sums[-1, place]
            records[3 * count + place] = sums[regimes[bar], place]
        rule, direction, confidence, leader, long_votes, short_votes = decide(
            states[:, bar], confidences[:, row], weights, shared, records
        )
        decided[0, row] = rule
        decided[1, row] = direction
        decided[2, row] = confidence
        decided[3, row] = leader
        decided[4, row] = long_votes
        decided[5, row] = short_votes
        slide(bar - WINDOW + 1, -1, states, returns, regimes, shared, sums)
