"""The consensus: a table worked by hand, laws, and the same bits from Numba."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals import aggregation
from signals.aggregation import aggregate
from signals.strategy import Analysis

FRACTION = st.floats(0.0, 1.0)
SUM = st.floats(0.0, 1e6)
SIDE = st.sampled_from([-1, 0, 1])


def one(direction: int, confidence: float, stop: float = 95.0) -> Analysis:
    """The analysis of one bar and one instrument."""
    return Analysis(
        direction=np.array([[direction]], dtype=np.int8),
        confidence=np.array([[confidence if direction else 0.0]]),
        stop_loss=np.array([[stop if direction else np.nan]]),
        take_profit=np.array([[stop + 20.0 if direction else np.nan]]),
        position_size=np.array([[stop / 1000.0 if direction else 0.0]]),
    )


@pytest.mark.parametrize(
    ("members", "weights", "direction", "confidence"),
    [
        # nobody, and one alone (also below the floor: it passes through)
        ([(0, 0.0), (0, 0.0)], [1, 1], 0, 0.0),
        ([(1, 0.3), (0, 0.0)], [1, 1], 1, 0.3),
        ([(0, 0.0), (-1, 0.8)], [1, 5], -1, 0.8),
        # agreement: the weighted mean (0.8 x 3 + 0.4 x 1) / 4
        ([(1, 0.8), (1, 0.4)], [3, 1], 1, 0.7),
        # 0.9 of 0.9 + 0.6 is 60%: consensus of the long side
        ([(1, 0.9), (-1, 0.6)], [1, 1], 1, 0.9),
        # 0.8 against 0.7 is no consensus; the stronger decides alone
        ([(1, 0.7), (-1, 0.8)], [1, 1], -1, 0.8),
        # no consensus and the strongest vote below the floor
        ([(1, 0.45), (-1, 0.4)], [1, 1], 0, 0.0),
        # weights turn the table: 0.5 x 3 = 1.5 against 0.9
        ([(1, 0.9), (-1, 0.5)], [1, 3], -1, 0.5),
        # two against one: 0.5 + 0.5 of 1.6 is 62.5%
        ([(1, 0.5), (1, 0.5), (-1, 0.6)], [1, 1, 1], 1, 0.5),
    ],
)
def test_the_table(members, weights, direction, confidence):
    names = [f"s{index}" for index in range(len(members))]
    found = aggregate(
        {name: one(*member) for name, member in zip(names, members, strict=True)},
        dict(zip(names, weights, strict=True)),
    )
    assert found.direction[0, 0] == direction
    assert found.confidence[0, 0] == pytest.approx(confidence)
    assert np.isnan(found.stop_loss[0, 0]) == (direction == 0)


def test_prices_and_size_are_of_the_strongest_voter():
    found = aggregate(
        {"a": one(1, 0.6, stop=90.0), "b": one(1, 0.9, stop=80.0), "c": one(-1, 0.2, stop=70.0)},
        {"a": 1.0, "b": 1.0, "c": 1.0},
    )
    assert found.stop_loss[0, 0] == 80.0
    assert found.take_profit[0, 0] == 100.0
    assert found.position_size[0, 0] == 0.08


def test_nothing_to_aggregate_is_refused():
    with pytest.raises(ValueError, match="nothing"):
        aggregate({}, {})


@given(
    st.dictionaries(
        st.sampled_from("abcde"), st.tuples(SIDE, FRACTION, st.floats(0.01, 100.0)), min_size=1
    )
)
def test_the_order_of_the_strategies_does_not_matter(members):
    analyses = {name: one(side, confidence) for name, (side, confidence, _) in members.items()}
    weights = {name: weight for name, (_, _, weight) in members.items()}
    first = aggregate(analyses, weights)
    second = aggregate(dict(reversed(analyses.items())), weights)
    for name in ("direction", "confidence", "stop_loss", "take_profit", "position_size"):
        assert np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True)
    sides = {int(analysis.direction[0, 0]) for analysis in analyses.values()}
    assert int(first.direction[0, 0]) in sides | {0}
    assert 0.0 <= first.confidence[0, 0] <= 1.0


# -- Numba -------------------------------------------------------------------------------------

VOTE = numba.njit(aggregation.vote_strength)
WINNER = numba.njit(aggregation.winning_direction)
RESOLVED = numba.njit(aggregation.is_resolved)
CONFIDENCE = numba.njit(aggregation.common_confidence)


@numba.njit
def compiled_loop(sides, confidences, weights, voters, strongest):
    """Every scalar function of aggregation, called as a compiled loop calls it."""
    result = np.empty((len(sides), 4))
    for index in range(len(sides)):
        vote = VOTE(sides[index], confidences[index], weights[index])
        other = weights[index] - confidences[index]
        winner = WINNER(voters[index], vote, other, sides[index], strongest[index])
        resolved = RESOLVED(voters[index], vote, other)
        confidence = CONFIDENCE(resolved, strongest[index], vote, weights[index])
        result[index, 0] = vote
        result[index, 1] = winner
        result[index, 2] = resolved
        result[index, 3] = confidence
    return result


def plain_loop(sides, confidences, weights, voters, strongest):
    """The same by the plain functions on Python scalars."""
    rows = []
    for side, confidence, weight, count, best in zip(
        *(array.tolist() for array in (sides, confidences, weights, voters, strongest)),
        strict=True,
    ):
        vote = aggregation.vote_strength(side, confidence, weight)
        other = weight - confidence
        winner = aggregation.winning_direction(count, vote, other, side, best)
        resolved = aggregation.is_resolved(count, vote, other)
        rows.append(
            (vote, winner, resolved, aggregation.common_confidence(resolved, best, vote, weight))
        )
    return np.array(rows, dtype=np.float64)


@settings(deadline=None)
@given(st.lists(st.tuples(SIDE, FRACTION, SUM, st.integers(0, 4), FRACTION), min_size=1))
def test_numba_gives_the_same_bits(cells):
    columns = [np.array(column) for column in zip(*cells, strict=True)]
    assert compiled_loop(*columns).tobytes() == plain_loop(*columns).tobytes()
