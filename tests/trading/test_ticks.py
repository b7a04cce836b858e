"""Doubles onto the grid: nearest, against the trader, or only what is whole."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.accounting import MAX_STEPS
from trading.ticks import adverse_ticks, level_ticks, nearest_ticks, shown_steps

TICK = st.sampled_from([(1, 10), (1, 100), (1, 2), (5, 1), (1, 100_000)])


@given(price=st.floats(1e-4, 1e5), side=st.sampled_from([1, -1]), tick=TICK)
def test_rounding_never_favours_the_trader(price: float, side: int, tick: tuple[int, int]) -> None:
    ticks = adverse_ticks(side, price, *tick)
    exact = price * tick[1] / tick[0]
    assert ticks >= 1
    if side > 0:
        assert exact - 1e-6 <= ticks < exact + 1
    elif ticks > 1:
        assert exact - 1 < ticks <= exact + 1e-6


@given(ticks=st.integers(1, 10**8), side=st.sampled_from([1, -1]))
def test_a_price_on_the_grid_stays(ticks: int, side: int) -> None:
    assert adverse_ticks(side, ticks / 100, 1, 100) == ticks
    assert nearest_ticks(ticks / 100, 1, 100) == ticks
    assert level_ticks(ticks / 100, 1, 100) == ticks


@pytest.mark.parametrize(
    ("price", "ticks"), [(math.nan, 0), (0.0001, 1), (0.014, 1), (0.016, 2), (0.015, 2)]
)
def test_a_level_is_at_least_one_tick_and_none_is_0(price: float, ticks: int) -> None:
    assert level_ticks(price, 1, 100) == ticks


@given(steps=st.integers(0, 10**8), part=st.floats(0.0, 0.99))
def test_what_is_shown_counts_in_whole_steps(steps: int, part: float) -> None:
    assert shown_steps(steps / 1000, 1, 1000) == steps
    assert shown_steps((steps + part) / 1000, 1, 1000) == steps


@pytest.mark.parametrize(
    ("quantity", "steps"),
    [(math.nan, 0), (-1.0, 0), (0.0, 0), (0.0009, 0), (1e300, MAX_STEPS), (math.inf, MAX_STEPS)],
)
def test_a_quantity_that_is_none_shows_nothing(quantity: float, steps: int) -> None:
    assert shown_steps(quantity, 1, 1000) == steps
