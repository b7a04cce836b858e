"""Indicators against plain definitions, and their behaviour where TA-Lib alone would mislead."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from signals import indicators

WALKS = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 60), st.integers(1, 3)), elements=st.floats(-0.2, 0.2)
).map(lambda steps: 100.0 * np.exp(np.cumsum(steps, axis=0)))


def wilder_rsi(close: np.ndarray, period: int) -> float:
    """The definition: averages started by the mean, then smoothed by 1/period."""
    change = np.diff(close)
    gain, loss = np.maximum(change, 0.0), np.maximum(-change, 0.0)
    up, down = gain[:period].mean(), loss[:period].mean()
    for index in range(period, len(change)):
        up = (up * (period - 1) + gain[index]) / period
        down = (down * (period - 1) + loss[index]) / period
    return 100.0 * up / (up + down)


def test_rsi_is_wilders():
    close = 50.0 + np.cumsum(np.random.default_rng(1).normal(size=(80, 2)), axis=0)
    found = indicators.rsi(close, 14)
    for column in range(2):
        assert found[-1, column] == pytest.approx(wilder_rsi(close[:, column], 14))
    assert (found[:14] == 50.0).all()


def test_rsi_of_a_constant_price_is_neutral():
    assert (indicators.rsi(np.full((50, 1), 3.0), 14) == 50.0).all()


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e7])
def test_rsi_does_not_depend_on_the_size_of_the_price(scale):
    close = np.exp(np.cumsum(np.random.default_rng(2).normal(size=(60, 1)) * 1e-4, axis=0))
    assert indicators.rsi(close * scale, 14) == pytest.approx(indicators.rsi(close, 14), abs=1e-6)


def test_correlation_is_pearsons():
    rng = np.random.default_rng(3)
    values, other = rng.normal(size=(100, 2)), rng.normal(size=100)
    found = indicators.rolling_correlation(values, other, 30)
    for bar in (29, 60, 99):
        part = slice(bar - 29, bar + 1)
        expected = np.corrcoef(values[part, 1], other[part])[0, 1]
        assert found[bar, 1] == pytest.approx(expected)
    assert (found[:29] == 0.0).all()


def test_correlation_with_what_does_not_vary_is_zero():
    values = np.random.default_rng(4).normal(size=(50, 1))
    assert (indicators.rolling_correlation(values, np.full(50, 0.3), 10) == 0.0).all()


def test_percentile_rank_counts_values_at_or_below():
    ranks = indicators.percentile_rank(np.array([5.0, 1.0, 3.0, 3.0, 9.0, 0.0]), 4)
    assert ranks.tolist() == [1.0, 0.5, 2 / 3, 0.75, 1.0, 0.25]


def test_drawdown_is_measured_from_the_rolling_high():
    close = np.array([[10.0], [20.0], [15.0], [12.0], [12.0]])
    fall = indicators.drawdown(close, close, 3)
    assert fall[:, 0].tolist() == pytest.approx([0.0, 0.0, 0.25, 0.4, 0.2])


def test_held_ends_after_its_bars_or_when_left():
    entry = np.array([[0], [1], [0], [0], [0], [1], [0], [0]], dtype=bool)
    leave = np.array([[1], [1], [0], [0], [0], [0], [1], [0]], dtype=bool)
    found = indicators.held(entry, leave, 3)[:, 0]
    assert found.tolist() == [False, True, True, True, False, True, False, False]


def test_values_at_the_start_of_a_run():
    direction = np.array([[0], [1], [1], [-1], [-1], [1]], dtype=np.int8)
    values = np.arange(6.0)[:, np.newaxis]
    assert indicators.at_run_start(direction, values)[:, 0].tolist() == [0, 1, 1, 3, 3, 5]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad):
    values = np.array([[1.0], [bad], [2.0]])
    with pytest.raises(ValueError, match="finite"):
        indicators.rsi(values, 2)


@given(WALKS, st.integers(0, 59))
def test_a_row_depends_on_earlier_rows_only(close, cut):
    cut = min(cut, len(close) - 1) + 1
    functions = [
        lambda values: indicators.rsi(values, 5),
        lambda values: indicators.rolling_max(values, 7),
        lambda values: indicators.log_change(values, 4),
        lambda values: indicators.rolling_correlation(values, values[:, 0], 6),
        lambda values: indicators.percentile_rank(values[:, 0], 9),
    ]
    for function in functions:
        whole = function(close)
        assert np.isfinite(whole).all()
        assert np.array_equal(whole[:cut], function(close[:cut]))
