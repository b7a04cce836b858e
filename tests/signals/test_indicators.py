"""Indicators against plain definitions, and their behaviour where TA-Lib alone would mislead."""

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from signals import indicators

WALKS = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 60), st.integers(1, 3)), elements=st.floats(-0.2, 0.2)
).map(lambda steps: 100.0 * np.exp(np.cumsum(steps, axis=0)))


# The closes of Wilder's worked example and the values he prints, to the cent at each step.
WILDER_CLOSES = (
    "54.80 56.80 57.85 59.85 60.57 61.10 62.17 60.60 62.35 62.15 62.35 61.45 62.80 61.37 62.50 "
    "62.57 60.80 59.37 60.35 62.35 62.17 62.55"
)
WILDER_RSI = (74.36, 74.55, 65.75, 59.68, 61.98, 66.44, 65.75, 67.00)
# The example that courses of technical analysis reproduce, computed without rounding.
COURSE_CLOSES = (
    "44.3389 44.0902 44.1497 43.6124 44.3278 44.8264 45.0955 45.4245 45.8433 46.0826 45.8931 "
    "46.0328 45.6140 46.2820 46.2820 46.0028 46.0328 46.4116 46.2222 45.6439 46.2122 46.2521 "
    "45.7137 46.4515 45.7835 45.3548 44.0288 44.1783 44.2181 44.5672 43.4205 42.6628 43.1314"
)
COURSE_RSI = (
    "70.53 66.32 66.55 69.41 66.36 57.97 62.93 63.26 56.06 62.38 54.71 50.42 39.99 41.46 41.87 "
    "45.46 37.30 33.08 37.77"
)


def cents(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"), ROUND_HALF_UP)


def wilder_rsi(closes: str, rounded: Callable[[Decimal], Decimal], period: int = 14) -> list[float]:
    """Wilder's arithmetic: averages begun with the mean, then each smoothed by 1/period."""
    close = [Decimal(price) for price in closes.split()]
    steps = [after - before for before, after in pairwise(close)]
    gains, losses = [max(step, Decimal(0)) for step in steps], [max(-step, 0) for step in steps]
    up, down = rounded(sum(gains[:period]) / period), rounded(sum(losses[:period]) / period)
    found = [rounded(100 - 100 / (1 + rounded(up / down)))]
    for gain, loss in zip(gains[period:], losses[period:], strict=True):
        up = rounded((up * (period - 1) + gain) / period)
        down = rounded((down * (period - 1) + loss) / period)
        found.append(rounded(100 - 100 / (1 + rounded(up / down))))
    return [float(value) for value in found]


def column(text: str) -> np.ndarray:
    return np.array([float(price) for price in text.split()])[:, np.newaxis]


def test_rsi_is_wilders():
    assert wilder_rsi(WILDER_CLOSES, cents) == pytest.approx(WILDER_RSI, abs=1e-9)
    found = indicators.rsi(column(WILDER_CLOSES), 14)[:, 0]
    assert (found[:14] == 50.0).all()
    assert found[14] == pytest.approx(WILDER_RSI[0], abs=0.2)  # he rounds, we do not
    assert found[14:] == pytest.approx(wilder_rsi(WILDER_CLOSES, lambda value: value), abs=1e-9)


def test_rsi_is_that_of_the_courses():
    found = indicators.rsi(column(COURSE_CLOSES), 14)[14:, 0]
    assert found == pytest.approx(column(COURSE_RSI)[:, 0], abs=0.006)


def test_atr_is_wilders():
    high = [10.0, 11.0, 12.5, 12.0, 11.0, 15.0]
    low = [9.0, 10.0, 11.5, 10.5, 10.0, 14.0]
    close = [9.5, 10.5, 12.0, 11.0, 10.5, 14.5]
    # True ranges: 1, 1.5 (from 9.5), 2 (from 10.5), 1.5, 1, 4.5 (a gap from 10.5). The average
    # begins with the mean of the three after the first bar: (1.5 + 2 + 1.5) / 3 = 5/3.
    second = (5.0 / 3.0 * 2.0 + 1.0) / 3.0
    expected = [1.0, 1.25, 1.5, 5.0 / 3.0, second, (second * 2.0 + 4.5) / 3.0]
    prices = (np.array(each)[:, np.newaxis] for each in (high, low, close))
    assert indicators.atr(*prices, 3)[:, 0] == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1e-8, 1e7])
def test_atr_grows_with_the_price(scale):
    close = np.exp(np.cumsum(np.random.default_rng(2).normal(size=(60, 1)) * 1e-4, axis=0))
    high, low = close * 1.0001, close * 0.9999
    scaled = indicators.atr(high * scale, low * scale, close * scale, 14)
    assert scaled == pytest.approx(indicators.atr(high, low, close, 14) * scale, rel=1e-9)


def test_atr_of_flat_bars_is_the_mean_change_of_the_closes():
    close = np.array([[10.0], [11.0], [9.0], [9.0], [12.0]])
    found = indicators.atr(close, close, close, 4)
    assert found[-1, 0] == pytest.approx((1.0 + 2.0 + 0.0 + 3.0) / 4.0)


def test_rsi_of_a_constant_price_is_neutral():
    assert (indicators.rsi(np.full((50, 1), 3.0), 14) == 50.0).all()


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e7])
def test_rsi_does_not_depend_on_the_size_of_the_price(scale):
    close = np.exp(np.cumsum(np.random.default_rng(2).normal(size=(60, 1)) * 1e-4, axis=0))
    assert indicators.rsi(close * scale, 14) == pytest.approx(indicators.rsi(close, 14), abs=1e-6)


def frame(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values)


@settings(max_examples=30, deadline=None)
@given(WALKS, st.integers(2, 70))
def test_windows_are_those_of_pandas(close, window):
    """The highest, the range before, the fall, the share and the deviation, against pandas."""
    high, low = close * 1.01, close * 0.99
    rolling = frame(high).rolling(window, min_periods=1)
    assert np.array_equal(indicators.rolling_max(high, window), rolling.max())
    fall = 1.0 - frame(close) / rolling.max()
    assert indicators.drawdown(close, high, window) == pytest.approx(fall.to_numpy())
    top, bottom = indicators.previous_range(high, low, window)
    lowest = frame(low).rolling(window, min_periods=1).min()
    assert np.array_equal(top[1:], rolling.max().shift(1)[1:])
    assert np.array_equal(bottom[1:], lowest.shift(1)[1:])
    assert (top[0] == high[0]).all()
    assert (bottom[0] == low[0]).all()
    returns = indicators.log_change(close, 1)
    spread = frame(returns).rolling(window).std(ddof=0).fillna(0.0)
    # Two running sums, of returns of at most 0.2: what is left of them is exact to 1e-8.
    assert indicators.rolling_std(returns, window) == pytest.approx(spread.to_numpy(), abs=1e-7)
    shares = frame(close).rolling(window, min_periods=1).rank(method="max", pct=True)
    assert indicators.percentile_rank(close, window) == pytest.approx(shares.to_numpy())


@settings(max_examples=30, deadline=None)
@given(WALKS, st.integers(3, 30), st.integers(0, 1000))
def test_correlation_is_that_of_pandas(close, window, seed):
    returns = indicators.log_change(close, 1)
    other = np.random.default_rng(seed).normal(size=len(close))
    found = indicators.rolling_correlation(returns, other, window)
    expected = frame(returns).rolling(window).corr(pd.Series(other)).to_numpy()
    # Where hardly anything moved, pandas and TA-Lib round differently.
    moved = frame(returns).rolling(window).std().to_numpy() > 1e-3
    assert found[moved] == pytest.approx(expected[moved], abs=1e-6)
    assert (found[: window - 1] == 0.0).all()


def test_correlation_with_what_does_not_vary_is_zero():
    values = np.random.default_rng(4).normal(size=(50, 1))
    assert (indicators.rolling_correlation(values, np.full(50, 0.3), 10) == 0.0).all()


def test_percentile_rank_counts_values_at_or_below():
    ranks = indicators.percentile_rank(np.array([5.0, 1.0, 3.0, 3.0, 9.0, 0.0]), 4)
    assert ranks.tolist() == [1.0, 0.5, 2 / 3, 0.75, 1.0, 0.25]


def test_percentile_rank_of_every_so_many_values():
    values = np.array([5.0, 1.0, 3.0, 2.0, 9.0, 3.0, 4.0])
    # The last, and those 2 and 4 before it (6 is outside of the window): 4 of 4, 9 and 3.
    assert indicators.percentile_rank(values, 6, every=2)[-1] == 2 / 3
    assert indicators.percentile_rank(values, 6, every=2)[0] == 1.0
    many = np.arange(2000.0)[::-1].copy()
    assert indicators.percentile_rank(many, 1500)[-1] == 1 / 1500


def test_deviation_of_what_stopped_moving_is_zero():
    values = np.array([[0.0], [4.6], [0.1], [0.1], [0.1], [0.1], [0.1]])
    assert (indicators.rolling_std(values, 3)[4:] == 0.0).all()
    partner = np.random.default_rng(1).normal(size=7)
    assert (indicators.rolling_correlation(values, partner, 3)[4:] == 0.0).all()


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


def test_a_run_begins_anew_when_it_is_renewed():
    direction = np.array([[0], [1], [1], [1], [-1]], dtype=np.int8)
    renewed = np.array([False, False, False, True, False])
    assert indicators.run_starts(direction, renewed)[:, 0].tolist() == [0, 1, 1, 3, 4]


def test_the_first_after_a_quiet_time():
    condition = np.array([[1], [1], [0], [0], [1], [0], [1], [0], [0], [0], [1]], dtype=bool)
    found = indicators.first_after_quiet(condition, 3)[:, 0]
    assert np.flatnonzero(found).tolist() == [0, 10]


@pytest.mark.parametrize(
    ("side", "closes", "expected"),
    [
        (1, [10.0, 9.0, 8.0, 10.0, 10.0], [1, 1, 0, 0, 0]),  # the stop at 8
        (1, [10.0, 12.0, 13.0, 10.0, 10.0], [1, 1, 0, 0, 0]),  # the target at 13
        (-1, [10.0, 11.0, 12.0, 10.0, 10.0], [-1, -1, 0, 0, 0]),  # the stop at 12
        (-1, [10.0, 9.0, 7.0, 10.0, 10.0], [-1, -1, 0, 0, 0]),  # the target at 7
        (1, [10.0, 9.0, 12.0, 9.0, 11.0], [1, 1, 1, 1, 1]),
    ],
)
def test_a_state_ends_at_its_stop_or_target(side, closes, expected):
    close = np.array(closes)[:, np.newaxis]
    direction = np.full(close.shape, side, dtype=np.int8)
    stop, target = np.full_like(close, 10.0 - 2.0 * side), np.full_like(close, 10.0 + 3.0 * side)
    began = indicators.run_starts(direction)
    found = indicators.until_hit(direction, began, close, stop, target)
    assert found[:, 0].tolist() == expected
    direction[3:] = -side
    began = indicators.run_starts(direction)
    turned = indicators.until_hit(direction, began, close, stop * np.nan, target * np.nan)
    assert np.array_equal(turned, direction)


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
        lambda values: indicators.percentile_rank(values, 9, every=2),
        lambda values: indicators.atr(values * 1.1, values * 0.9, values, 5),
        lambda values: indicators.rolling_std(values, 6),
        lambda values: indicators.previous_range(values, values, 5)[1],
    ]
    for function in functions:
        whole = function(close)
        assert np.isfinite(whole).all()
        assert np.array_equal(whole[:cut], function(close[:cut]))
        in_columns = function(indicators.by_column(close))
        assert np.array_equal(whole, in_columns)


PRICES = pytest.mark.parametrize("price", [1e-8, 1.0, 1e7])


@PRICES
@pytest.mark.parametrize("bars", [1, 3, 40])
def test_a_constant_price_has_no_range_and_no_deviation(price, bars):
    close = np.full((bars, 2), price)
    assert (indicators.atr(close, close, close, 14) == 0.0).all()
    assert (indicators.rolling_std(indicators.log_change(close, 1), 14) == 0.0).all()
    assert (indicators.drawdown(close, close, 14) == 0.0).all()
    assert (indicators.percentile_rank(close, 14) == 1.0).all()
    assert (indicators.previous_range(close, close, 14)[0] == price).all()
