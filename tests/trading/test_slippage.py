"""What taking is expected to cost where no book is known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.slippage import MARKET_BOUND_BPS, expected_slippage_bps, slipped_ticks

NAN = math.nan
AMOUNT = st.floats(1.0, 1e9)


@pytest.mark.parametrize(
    ("volatility", "notional", "volume", "expected"),
    [
        (NAN, 1e4, 1e9, 1.0),
        (NAN, NAN, NAN, 1.0),
        (0.03, 1e4, NAN, 1.0),  # a calm market of unknown size
        (0.01, 0.0, 1e9, 1.0),  # calmer than calm costs no less
        (0.06, 1e4, NAN, 2.0),
        # A hundredth of a day's volume moves the price by a tenth of a day's volatility.
        (0.03, 1e7, 1e9, 31.0),
        (0.03, 1e4, 1e10, 1.3),
        (0.05, 1e9, 1.0, MARKET_BOUND_BPS),
        (0.0, 1e4, 1e9, 1.0),
        (-1.0, 1e4, 1e9, 1.0),
        (math.inf, 1e4, 1e9, 1.0),
        (0.03, 1e4, 0.0, 1.0),
    ],
)
def test_the_square_root_law_as_a_table(
    volatility: float, notional: float, volume: float, expected: float
) -> None:
    assert expected_slippage_bps(1.0, volatility, notional, volume) == pytest.approx(expected)


@given(volatility=st.floats(0.0, 2.0), more=st.floats(0.0, 1.0), size=AMOUNT, volume=AMOUNT)
def test_more_volatility_and_more_size_never_cost_less(
    volatility: float, more: float, size: float, volume: float
) -> None:
    cost = expected_slippage_bps(1.0, volatility, size, volume)
    assert 1.0 <= cost <= MARKET_BOUND_BPS
    assert cost <= expected_slippage_bps(1.0, volatility + more, size, volume)
    assert cost <= expected_slippage_bps(1.0, volatility, size * (1.0 + more), volume)
    assert cost >= expected_slippage_bps(1.0, volatility, size, volume * (1.0 + more))


def test_the_base_is_bounded_too() -> None:
    assert expected_slippage_bps(1e6, NAN, NAN, NAN) == MARKET_BOUND_BPS


@given(ticks=st.integers(1, 10**8), bps=st.floats(0.0, 500.0), side=st.sampled_from([1, -1]))
def test_slippage_is_rounded_against_the_trader(ticks: int, bps: float, side: int) -> None:
    slipped = slipped_ticks(side, ticks, bps)
    exact = ticks * (1.0 + side * bps / 10_000.0)
    assert slipped >= 1
    assert side * (slipped - ticks) >= 0 or slipped == 1
    assert -1e-6 <= side * (slipped - exact) < 1.0 or slipped == 1
