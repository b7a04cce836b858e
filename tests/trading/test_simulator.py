"""Fills are rounded against the trader; stops come first; gaps fill at the open."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.orders import Grid
from trading.protection import NO_EXIT, STOP_HIT, TARGET_HIT, protective_exit
from trading.simulator import MAKER, TAKER, market_fill_ticks
from trading.ticks import adverse_ticks, nearest_ticks

NAN = math.nan
GRID = Grid.of("0.01", "0.001")


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
        (1, 95.0, 110.0, (100.0, 105.0, 96.0), (NO_EXIT, 0)),
        (1, 95.0, 110.0, (100.0, 105.0, 95.0), (STOP_HIT, 9_499)),
        (1, 95.0, 110.0, (100.0, 110.0, 99.0), (NO_EXIT, 0)),  # touched, not traded through
        (1, 95.0, 110.0, (100.0, 110.01, 99.0), (TARGET_HIT, 11_000)),
        (1, 95.0, 110.0, (100.0, 111.0, 94.0), (STOP_HIT, 9_499)),
        (1, 95.0, 110.0, (93.0, 112.0, 92.0), (STOP_HIT, 9_299)),
        (1, 95.0, 110.0, (112.0, 113.0, 90.0), (TARGET_HIT, 11_000)),  # not at the open
        (1, 95.0, 110.0, (110.0, 110.0, 94.0), (STOP_HIT, 9_499)),
        (-1, 105.0, 90.0, (100.0, 104.0, 91.0), (NO_EXIT, 0)),
        (-1, 105.0, 90.0, (100.0, 106.0, 89.0), (STOP_HIT, 10_502)),
        (-1, 105.0, 90.0, (100.0, 101.0, 90.0), (NO_EXIT, 0)),
        (-1, 105.0, 90.0, (100.0, 101.0, 89.99), (TARGET_HIT, 9_000)),
        (-1, 105.0, 90.0, (107.0, 108.0, 80.0), (STOP_HIT, 10_702)),
        (-1, 105.0, 90.0, (88.0, 120.0, 85.0), (TARGET_HIT, 9_000)),
        (1, NAN, NAN, (100.0, 1e6, 1e-6), (NO_EXIT, 0)),
        (1, NAN, 110.0, (100.0, 111.0, 1.0), (TARGET_HIT, 11_000)),
    ],
)
def test_exits_as_a_table(
    direction: int,
    stop: float,
    target: float,
    bar: tuple[float, float, float],
    expected: tuple[int, int],
) -> None:
    leg, match = protective_exit(direction, 10, stop, target, *bar, 1.0, GRID)
    assert (leg, match.ticks) == expected
    if leg != NO_EXIT:
        assert match.steps == 10
        assert match.liquidity == (TAKER if leg == STOP_HIT else MAKER)
