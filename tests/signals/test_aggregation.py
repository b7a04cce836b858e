"""The rules of the consensus: a table worked by hand, and the same bits from Numba."""

import inspect
import types
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals import aggregation
from signals.aggregation import RULES, decide
from signals.compiled import compiled_functions

# -- The table ---------------------------------------------------------------------------------

# A record of 72 bars has an edge of net x 72 / (moved x sqrt(72 + 72)) = 6 x net / moved: with
# half of the moves gained that is 3, a factor of 1 + 0.5 x 3 / (3 + 3) = 1.25, with half of them
# lost 0.75. With nothing of it in another regime, the present regime's factor is 1.
NOTHING = (0, 0, 0, 0, 0, 0)
GAINED = (500, 1000, 72, 500, 1000, 72)
LOST = (-500, 1000, 72, -500, 1000, 72)
# On the whole nothing gained, but half of what moved in the present regime: factors 1 and 1.25.
GAINED_HERE = (0, 1000, 144, 250, 500, 72)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Voters as (direction, confidence, weight), and what becomes of them."""

    voters: list[tuple[int, float, float]]
    rule: str
    direction: int
    confidence: float
    leader: int = -1
    agreements: dict[tuple[int, int], int] = field(default_factory=dict)  # of 100 bars each
    records: dict[int, tuple[int, ...]] = field(default_factory=dict)


THREE_COPIES = {(0, 1): 100, (0, 2): 100, (1, 2): 100}
TABLE = {
    "nobody": Case(
        voters=[(0, 0.0, 1.0), (0, 0.0, 1.0)], rule="all flat", direction=0, confidence=0.0
    ),
    "one alone passes through, below the floor too": Case(
        voters=[(0, 0.0, 5.0), (-1, 0.3, 1.0)],
        rule="single", direction=-1, confidence=0.3, leader=1,
    ),
    # Confidence (3 x 0.8 + 1 x 0.4) / 4 = 0.7; votes 2.4 and 0.4: the first leads.
    "agreement": Case(
        voters=[(1, 0.8, 3.0), (1, 0.4, 1.0)],
        rule="consensus", direction=1, confidence=0.7, leader=0,
    ),
    # 0.9 of 0.9 + 0.6 = 1.5 is 60%.
    "just a consensus": Case(
        voters=[(1, 0.9, 1.0), (-1, 0.6, 1.0)],
        rule="consensus", direction=1, confidence=0.9, leader=0,
    ),
    # 1.5 of 0.9 + 3 x 0.5 = 2.4 is 62.5%: the weight turns it.
    "a heavier voter": Case(
        voters=[(1, 0.9, 1.0), (-1, 0.5, 3.0)],
        rule="consensus", direction=-1, confidence=0.5, leader=1,
    ),
    # 0.9 against 1.4 x 0.7 = 0.98, 52%: none. The scores know no weights: 0.9 beats 0.7.
    "no consensus": Case(
        voters=[(1, 0.9, 1.0), (-1, 0.7, 1.4)],
        rule="resolved", direction=1, confidence=0.9, leader=0,
    ),
    # 0.45 of 0.85 is 53%: none, and the highest score is 0.45.
    "below the floor": Case(
        voters=[(1, 0.45, 1.0), (-1, 0.4, 1.0)],
        rule="below the floor", direction=0, confidence=0.0,
    ),
    "nothing between two sides": Case(
        voters=[(1, 0.8, 1.0), (-1, 0.8, 1.0)], rule="tied", direction=0, confidence=0.0
    ),
    # Scores 0.7 and 0.6 x 1.25 = 0.75: what it has gained decides; its confidence stays its own.
    "performance turns it": Case(
        voters=[(1, 0.7, 1.0), (-1, 0.6, 1.0)], records={1: GAINED},
        rule="resolved", direction=-1, confidence=0.6, leader=1,
    ),
    # Scores 0.55 x 0.75 = 0.4125 and 0.45.
    "performance takes it below the floor": Case(
        voters=[(1, 0.55, 1.0), (-1, 0.45, 1.0)], records={0: LOST},
        rule="below the floor", direction=0, confidence=0.0,
    ),
    # Scores 0.45 x 1.25 = 0.5625 and 0.45: above the floor by its regime alone.
    "the regime turns it": Case(
        voters=[(1, 0.45, 1.0), (-1, 0.45, 1.0)], records={0: GAINED_HERE},
        rule="resolved", direction=1, confidence=0.45, leader=0,
    ),
    # Apart 0.5 x 3 = 1.5 of 2.3 were 65%; as one idea, a third each, 0.5 of 1.3 are 38% and the
    # other side holds 62%.
    "three copies weigh as one": Case(
        voters=[(1, 0.5, 1.0), (1, 0.5, 1.0), (1, 0.5, 1.0), (-1, 0.8, 1.0)],
        agreements=THREE_COPIES,
        rule="consensus", direction=-1, confidence=0.8, leader=3,
    ),
    # Agreement 0.5 is no overlap yet: 1.5 of 2.3 stay 65%.
    "three that agree half the time are three": Case(
        voters=[(1, 0.5, 1.0), (1, 0.5, 1.0), (1, 0.5, 1.0), (-1, 0.8, 1.0)],
        agreements={(0, 1): 50, (0, 2): 50, (1, 2): 50},
        rule="consensus", direction=1, confidence=0.5, leader=0,
    ),
    # Agreement 0.75, overlap 0.5: each keeps 1 / 1.5. Votes 2/3 x (0.9 + 0.6) = 1.0 of 1.6 are
    # 62.5%; confidence (0.9 + 0.6) / 2.
    "half a copy": Case(
        voters=[(1, 0.9, 1.0), (1, 0.6, 1.0), (-1, 0.6, 1.0)],
        agreements={(0, 1): 75},
        rule="consensus", direction=1, confidence=0.75, leader=0,
    ),
    # Copies of weights 3 and 1 keep 3 x 3/4 = 2.25 and 1 x 1/4 = 0.25; confidence
    # (2.25 x 0.8 + 0.25 x 0.4) / 2.5 = 0.76.
    "copies of unlike weights": Case(
        voters=[(1, 0.8, 3.0), (1, 0.4, 1.0)],
        agreements={(0, 1): 100},
        rule="consensus", direction=1, confidence=0.76, leader=0,
    ),
    # Who agreed for a month and now says the opposite is no copy now: 0.8 of 1.3 is 61.5%.
    "copies that part": Case(
        voters=[(1, 0.8, 1.0), (-1, 0.5, 1.0)],
        agreements={(0, 1): 90},
        rule="consensus", direction=1, confidence=0.8, leader=0,
    ),
    "no weight, no vote": Case(
        voters=[(1, 0.4, 1.0), (-1, 0.9, 0.0)],
        rule="single", direction=1, confidence=0.4, leader=0,
    ),
    "nobody is sure of anything": Case(
        voters=[(1, 0.0, 1.0), (1, 0.0, 1.0)],
        rule="below the floor", direction=0, confidence=0.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_table(name):
    case = TABLE[name]
    count = len(case.voters)
    shared = np.diag([100] * count)
    for (index, other), bars in case.agreements.items():
        shared[index, other] = shared[other, index] = bars
    records = np.array([case.records.get(index, NOTHING) for index in range(count)]).T
    directions, confidences, weights = zip(*case.voters, strict=True)
    rule, direction, confidence, leader, long_votes, short_votes = decide(
        directions, confidences, weights, shared.ravel().tolist(), records.ravel().tolist()
    )
    assert (RULES[rule], direction, leader) == (case.rule, case.direction, case.leader)
    assert confidence == pytest.approx(case.confidence)
    assert min(long_votes, short_votes) >= 0.0


@pytest.mark.parametrize("copies", range(1, 13))
def test_60_percent_are_enough_however_they_add_up(copies):
    """Copies of one voter weigh as one, also where their shares of it are no binary fractions."""
    count = copies + 1
    shared = np.full((count, count), 100)
    shared[-1, :-1] = shared[:-1, -1] = 0
    for unit in range(1, 34):
        confidences = [3 * unit / 100] * copies + [2 * unit / 100]
        rule, direction, *_ = decide(
            [1] * copies + [-1], confidences, [1.0] * count, shared.ravel().tolist(),
            [0] * (aggregation.RECORD_ROWS * count),
        )  # fmt: skip
        assert (RULES[rule], direction) == ("consensus", 1)


def test_factors_stay_in_their_range_and_start_neutral():
    for moved, bars in ((1, 1), (10**9, 720), (10**12, 720)):
        for net in (-moved, 0, moved):
            found = aggregation.performance_factor(net, moved, bars)
            assert 0.5 < found < 1.5
            assert (found > 1.0) - (found < 1.0) == (net > 0) - (net < 0)
    assert aggregation.performance_factor(0, 0, 0) == 1.0
    assert aggregation.regime_factor(0, 0, 0, 0, 0) == 1.0
    # The same share of what moved in every regime: nothing of the regime's own.
    assert aggregation.regime_factor(50, 500, 36, 100, 1000) == 1.0


def test_few_bars_prove_little():
    factors = [aggregation.performance_factor(bars, bars, bars) for bars in (1, 10, 100, 700)]
    assert factors == sorted(factors)
    assert factors[0] < 1.02
    assert factors[-1] > 1.4


# -- Numba -------------------------------------------------------------------------------------

PLAIN = {
    name: function
    for name, function in vars(aggregation).items()
    if isinstance(function, types.FunctionType) and function.__module__ == aggregation.__name__
}
ROWS = 3
BARS = aggregation.WINDOW + ROWS
FRACTION = st.floats(0.0, 1.0)
SUM = st.floats(0.0, 1e6)
SIGNED = st.integers(-(10**12), 10**12)
COUNT = st.integers(1, 720)
# What each parameter of the scalar functions may be, by its name: a new name needs a line here.
SCALARS = {
    "active": COUNT, "other_active": COUNT,
    "confidence": FRACTION, "effective": SUM, "ahead": st.floats(-1e3, 1e3),
    "net": SIGNED, "moved": st.integers(0, 10**12), "bars": st.integers(0, 720),
    "net_here": SIGNED, "moved_here": st.integers(0, 10**12), "bars_here": st.integers(0, 720),
    "performance": st.floats(0.5, 1.5), "regime": st.floats(0.5, 1.5),
    "side": st.sampled_from([-1, 1]), "long_votes": SUM, "short_votes": SUM,
    "votes": SUM, "total": st.floats(1e-6, 1e6), "lowest": FRACTION, "highest": FRACTION,
    "bar": st.integers(1, BARS - 1), "sign": st.sampled_from([-1, 1]),
}  # fmt: skip


def tables(seed):
    """What each parameter that is no scalar may be, by its name, for some strategies."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 6))
    shared = rng.integers(-720, 721, (count, count))
    shared[range(count), range(count)] = rng.integers(1, 721, count)
    index = int(rng.integers(0, count))
    weights = rng.choice([0.0, 1.0, 2.5, rng.random()], count)
    weights[index] = 1.5  # that of a voter is above 0
    return {
        "directions": rng.integers(-1, 2, count).astype(np.int8),
        "confidences": rng.choice([0.0, 0.5, 1.0, rng.random()], count),
        "weights": weights,
        "shared": shared.ravel(),
        "records": rng.integers(-(10**12), 10**12, aggregation.RECORD_ROWS * count),
        "index": index,
        "states": rng.integers(-1, 2, (count, BARS)).astype(np.int8),
        "returns": rng.integers(-(10**8), 10**8, BARS),
        "regimes": rng.integers(0, 4, BARS).astype(np.int8),
        "sums": np.zeros((5, 3 * count), dtype=np.int64),
        "decided": np.zeros((6, ROWS)),
    }


def arguments(names, cell, scalars):
    """A function's arguments by the names of its parameters."""
    found = {name: cell[name].copy() if name in cell and name != "index" else None
             for name in names}  # fmt: skip
    for name in names:
        if name == "index":
            found[name] = cell[name]
        elif name in scalars:
            found[name] = scalars[name]
    if "active" in names:  # of one pair
        found["shared"] = int(cell["shared"][-1])
    if "decided" in names:  # of one column, from the empty sums on
        for name in ("shared", "records"):
            found[name][:] = 0
        found["confidences"] = np.outer(found["confidences"], [1.0, 0.7, 0.3])
    return list(found.values())


def bits(value):
    """A value that equals another only when every bit does."""
    if isinstance(value, tuple):
        return tuple(bits(part) for part in value)
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if value is None:
        return None
    return float(value).hex() if isinstance(value, float) else int(value)


@pytest.fixture(scope="module")
def compiled():
    return compiled_functions()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), scalars=st.fixed_dictionaries(SCALARS))
def test_numba_gives_the_same_bits_of_every_function(compiled, seed, scalars):
    assert set(compiled) == set(PLAIN)
    cell = tables(seed)
    for name, function in PLAIN.items():
        names = list(inspect.signature(function).parameters)
        by_numba, plain = (arguments(names, cell, scalars) for _ in range(2))
        fills = {"decided", "sums"} & set(names)  # what it changes is what it answers
        if not fills:  # at a live bar it is given lists of plain numbers
            plain = [each.tolist() if isinstance(each, np.ndarray) else each for each in plain]
        answers = bits(compiled[name](*by_numba)), bits(function(*plain))
        assert answers[0] == answers[1], name
        if fills:
            for parameter, one, other in zip(names, by_numba, plain, strict=True):
                assert bits(one) == bits(other), (name, parameter)
