"""Ranks, residuals and sums against NumPy and SciPy, and the bits of one day among many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from signals import ranking

WINDOW = 30


def returns_of(seed: int, days: int = 12, names: int = 7) -> np.ndarray:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(days + WINDOW - 1, 1)) * 0.02
    own = rng.normal(size=(days + WINDOW - 1, names)) * 0.03
    return own + common * np.linspace(0.2, 2.0, names)


def everyone(values: np.ndarray) -> np.ndarray:
    return np.ones(values.shape, dtype=bool)


def test_windows_end_on_each_day_oldest_first():
    windows = ranking.trailing_windows(np.arange(10.0).reshape(5, 2), 3)
    assert windows.shape == (3, 3, 2)
    assert windows[:, 0, 0].tolist() == [0.0, 2.0, 4.0]
    assert windows[:, 2, 1].tolist() == [5.0, 7.0, 9.0]
    assert ranking.trailing_windows(np.ones((2, 4)), 3).shape == (3, 0, 4)


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40)),
        elements=st.floats(-1e3, 1e3),
    ),
    st.integers(-1, 2),
)
def test_a_sum_takes_one_term_after_the_other(values, axis):
    expected = np.zeros(np.delete(values.shape, axis))
    for term in np.moveaxis(values, axis, 0):
        expected = expected + term
    assert np.array_equal(ranking.sum_in_order(values, axis), expected)


def test_ranks_run_evenly_from_worst_to_best():
    values = np.array([[3.0, 1.0, 9.0, 4.0, 7.0]])
    taking_part = np.array([[True, True, True, False, True]])
    position = ranking.positions(values, taking_part)
    assert ranking.centred_ranks(position, taking_part)[0] == pytest.approx(
        [-1 / 3, -1.0, 1.0, 0.0, 1 / 3]
    )


@given(hnp.arrays(np.float64, (6, 9), elements=st.floats(-5, 5)))
def test_positions_are_scipys_ordinal_ranks(values):
    found = ranking.positions(values, everyone(values))
    assert np.array_equal(found, rankdata(values, method="ordinal", axis=1) - 1)


def test_of_equals_the_earlier_ranks_lower():
    values = np.array([[2.0, 2.0, 2.0]])
    assert ranking.positions(values, everyone(values)).tolist() == [[0, 1, 2]]


def test_extremes_are_as_many_high_as_low():
    values = np.array([[5.0, 3.0, 8.0, 1.0, 4.0]] * 3)
    taking_part = everyone(values)
    taking_part[1, 2] = False
    position = ranking.positions(values, taking_part)
    found = ranking.extremes(position, taking_part, np.array([1, 2, 3]))
    assert found.tolist() == [[0, 0, 1, -1, 0], [1, -1, 0, -1, 1], [0, 0, 0, 0, 0]]


def test_volatility_is_the_sample_deviation():
    returns = returns_of(1)
    found = ranking.volatility(ranking.trailing_windows(returns, WINDOW))
    for day in (0, 5, 11):
        assert found[day] == pytest.approx(returns[day : day + WINDOW].std(axis=0, ddof=1))


def test_the_market_is_the_mean_of_those_that_take_part():
    windows = ranking.trailing_windows(returns_of(2), WINDOW)
    taking_part = np.random.default_rng(3).random(windows.shape[1:]) > 0.4
    taking_part[4] = False
    found = ranking.market_returns(windows, taking_part)
    for day in (0, 7):
        expected = windows[:, day][:, taking_part[day]].mean(axis=1)
        assert found[:, day] == pytest.approx(expected)
    assert (found[:, 4] == 0.0).all()


def test_residual_momentum_is_that_of_a_least_squares_fit():
    returns = returns_of(4)
    windows = ranking.trailing_windows(returns, WINDOW)
    market = ranking.market_returns(windows, everyone(windows[0]))
    found = ranking.residual_momentum(windows, market, slice(14, 28))
    for day in (0, 6, 11):
        moved, factor = returns[day : day + WINDOW], market[:, day]
        design = np.column_stack([np.ones(WINDOW), factor])
        fitted, squares, *_ = np.linalg.lstsq(design, moved, rcond=None)
        residuals = moved - design @ fitted
        expected = residuals[14:28].sum(axis=0) / np.sqrt(squares / (WINDOW - 2))
        assert found[day] == pytest.approx(expected)


def test_what_the_market_explains_has_no_residual():
    market = returns_of(5)[:, :1]
    windows = ranking.trailing_windows(market * np.array([0.5, 1.0, 3.0]) + 0.01, WINDOW)
    factor = ranking.trailing_windows(market, WINDOW)[:, :, 0]
    assert not ranking.residual_momentum(windows, factor, slice(10, 28)).any()


def test_a_market_that_stands_still_explains_nothing():
    windows = ranking.trailing_windows(returns_of(6), WINDOW)
    found = ranking.residual_momentum(windows, np.zeros(windows.shape[:2]), slice(10, 28))
    centred = windows - windows.mean(axis=0)
    deviation = np.sqrt((centred**2).sum(axis=0) / (WINDOW - 2))
    assert found == pytest.approx(centred[10:28].sum(axis=0) / deviation)


def test_a_day_has_the_same_bits_alone_and_among_others():
    returns = returns_of(7, days=40, names=9)
    windows = ranking.trailing_windows(returns, WINDOW)
    market = ranking.market_returns(windows, everyone(windows[0]))
    residual = ranking.residual_momentum(windows, market, slice(14, 28))
    deviation = ranking.volatility(windows)
    for day in (0, 17, 39):
        alone = ranking.trailing_windows(returns[day : day + WINDOW], WINDOW)
        factor = ranking.market_returns(alone, everyone(alone[0]))
        assert np.array_equal(factor[:, 0], market[:, day])
        assert np.array_equal(
            ranking.residual_momentum(alone, factor, slice(14, 28))[0], residual[day]
        )
        assert np.array_equal(ranking.volatility(alone)[0], deviation[day])
