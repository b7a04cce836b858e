"""An order walks the levels of a book: exactly, as far as they go, and rounded once."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.depth import Sweep, sweep_levels
from trading.orders import Grid

GRID = Grid.of("0.1", "0.001")
ASKS = [(100.0, 0.002), (100.1, 0.003), (100.5, 0.01)]
BIDS = [(99.9, 0.002), (99.8, 0.003), (99.0, 0.01)]

Levels = list[tuple[float, float]]


def sweep(side: int, wanted: int, levels: Levels, *, bound: int = 0, grid: Grid = GRID) -> Sweep:
    prices = np.array([price for price, _ in levels], dtype=np.float64)
    quantities = np.array([quantity for _, quantity in levels], dtype=np.float64)
    return sweep_levels(side, wanted, prices, quantities, bound, grid)


@pytest.mark.parametrize(
    ("side", "wanted", "bound", "expected"),
    [
        (1, 1, 0, (1, 1000)),
        (1, 2, 0, (2, 1000)),
        (1, 5, 0, (5, 1001)),  # 1000.6
        (1, 15, 0, (15, 1004)),  # (2 x 1000 + 3 x 1001 + 10 x 1005) / 15 = 1003.5
        (1, 99, 0, (15, 1004)),  # the book runs out
        (1, 99, 1001, (5, 1001)),  # and so does the bound
        (1, 99, 999, (0, 0)),
        (-1, 2, 0, (2, 999)),
        (-1, 5, 0, (5, 998)),  # 998.4
        (-1, 15, 0, (15, 992)),  # 992.8
        (-1, 15, 998, (5, 998)),
        (-1, 15, 1000, (0, 0)),
        (1, 0, 0, (0, 0)),
    ],
)
def test_a_walk_as_a_table(side: int, wanted: int, bound: int, expected: tuple[int, int]) -> None:
    found = sweep(side, wanted, ASKS if side > 0 else BIDS, bound=bound)
    assert (found.steps, found.ticks) == expected
    assert found.touch_ticks == (1000 if side > 0 else 999)


@pytest.mark.parametrize("price", [math.nan, 0.0, -1.0, math.inf])
def test_a_level_without_a_price_ends_the_walk(price: float) -> None:
    assert sweep(1, 9, [ASKS[0], (price, 5.0), ASKS[1]]) == Sweep(2, 1000, 1000)
    assert sweep(1, 9, [(price, 5.0), *ASKS]) == Sweep(0, 0, 0)
    assert sweep(1, 9, []) == Sweep(0, 0, 0)


@pytest.mark.parametrize("quantity", [math.nan, 0.0, -3.0, 0.0009])
def test_a_level_without_a_whole_step_gives_nothing(quantity: float) -> None:
    assert sweep(1, 2, [(100.0, quantity), (100.1, 0.003)]) == Sweep(2, 1001, 1000)


BOOKS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 50_000)), min_size=1, max_size=25)


@given(
    book=BOOKS,
    wanted=st.integers(1, 300_000),
    side=st.sampled_from([1, -1]),
    reach=st.none() | st.integers(0, 300),
    grid=st.sampled_from([("0.1", "0.001"), ("0.01", "1"), ("0.5", "0.01"), ("0.0001", "10")]),
)
def test_the_walk_agrees_with_exact_fractions(
    book: list[tuple[int, int]],
    wanted: int,
    side: int,
    reach: int | None,
    grid: tuple[str, str],
) -> None:
    """Steps exactly, and the average price rounded up for a buy, down for a sell: nothing else."""
    tick, step = Fraction(grid[0]), Fraction(grid[1])
    price, levels, touch = 100_000, [], 100_000 + side * book[0][0]
    taken, cost = 0, Fraction(0)
    bound = 0 if reach is None else touch + side * reach
    for gap, shown in book:
        price += side * gap
        levels.append((float(price * tick), float(shown * step)))
        if bound == 0 or side * (price - bound) <= 0:
            steps = min(shown, wanted - taken)
            taken += steps
            cost += steps * price
    found = sweep(side, wanted, levels, bound=bound, grid=Grid.of(*grid))
    average = Fraction(cost, taken) if taken else Fraction(0)
    expected = math.ceil(average) if side > 0 else math.floor(average)
    assert found == Sweep(taken, expected, touch)
    assert abs(found.ticks - average) < 1
