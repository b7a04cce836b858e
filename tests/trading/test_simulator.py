"""Fills are rounded against the trader; stops come first; gaps fill at the open."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.simulator import (
    NO_EXIT,
    STOP_HIT,
    TARGET_HIT,
    exit_ticks,
    market_fill_ticks,
    protective_exit,
)
from trading.ticks import adverse_ticks, nearest_ticks

NAN = math.nan


def test_a_buy_pays_the_ask_and_a_sell_gets_the_bid_both_slipped() -> None:
    assert market_fill_ticks(1, 99.9, 100.0, 1.0, 1, 100) == 10_001
    assert market_fill_ticks(-1, 100.0, 100.1, 1.0, 1, 100) == 9_999
    assert market_fill_ticks(1, 99.9, 100.0, 0.0, 1, 100) == 10_000


@given(
    price=st.floats(1e-4, 1e5),
    side=st.sampled_from([1, -1]),
    tick=st.sampled_from([(1, 10), (1, 100), (1, 2), (5, 1), (1, 100_000)]),
)
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


@pytest.mark.parametrize(
    ("direction", "stop", "target", "bar", "expected"),
    [
        (1, 95.0, 110.0, (100.0, 105.0, 96.0), (NO_EXIT, NAN)),
        (1, 95.0, 110.0, (100.0, 105.0, 95.0), (STOP_HIT, 95.0)),
        (1, 95.0, 110.0, (100.0, 110.0, 99.0), (TARGET_HIT, 110.0)),
        (1, 95.0, 110.0, (100.0, 111.0, 94.0), (STOP_HIT, 95.0)),
        (1, 95.0, 110.0, (93.0, 112.0, 92.0), (STOP_HIT, 93.0)),
        (1, 95.0, 110.0, (112.0, 113.0, 90.0), (TARGET_HIT, 112.0)),
        (-1, 105.0, 90.0, (100.0, 104.0, 91.0), (NO_EXIT, NAN)),
        (-1, 105.0, 90.0, (100.0, 106.0, 89.0), (STOP_HIT, 105.0)),
        (-1, 105.0, 90.0, (100.0, 101.0, 90.0), (TARGET_HIT, 90.0)),
        (-1, 105.0, 90.0, (107.0, 108.0, 80.0), (STOP_HIT, 107.0)),
        (-1, 105.0, 90.0, (88.0, 120.0, 85.0), (TARGET_HIT, 88.0)),
        (1, NAN, NAN, (100.0, 1e6, 1e-6), (NO_EXIT, NAN)),
        (1, NAN, 110.0, (100.0, 111.0, 1.0), (TARGET_HIT, 110.0)),
    ],
)
def test_exits_as_a_table(
    direction: int,
    stop: float,
    target: float,
    bar: tuple[float, float, float],
    expected: tuple[int, float],
) -> None:
    leg, price = protective_exit(direction, stop, target, *bar)
    assert leg == expected[0]
    assert price == expected[1] or (math.isnan(price) and math.isnan(expected[1]))


def test_a_stop_slips_and_a_target_does_not() -> None:
    assert exit_ticks(STOP_HIT, -1, 100.0, 1.0, 1, 100) == 9_999
    assert exit_ticks(TARGET_HIT, -1, 100.0, 1.0, 1, 100) == 10_000
