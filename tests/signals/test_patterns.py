"""Votes of candles and of closes beyond a range, drawn by hand."""

import numpy as np
import pytest

from signals import patterns

QUIET = 20


def candles(*last: tuple[float, float, float, float]) -> tuple[np.ndarray, ...]:
    """Open, high, low, close, each (B, 1): alternating bodies of 1 around 100, then `last`."""
    bars = [(100.0, 101.2, 99.8, 101.0), (101.0, 101.2, 99.8, 100.0)] * (QUIET // 2)
    return tuple(np.array([*bars, *last]).T[:, :, np.newaxis])


def mirrored(shapes: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    opened, high, low, close = (200.0 - each for each in shapes)
    return opened, low, high, close


def everyone(shapes: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.ones(shapes[3].shape, dtype=bool)


FALL = (100.0, 100.1, 98.4, 98.5)
ENGULFING = (98.4, 102.6, 98.3, 102.5)
HAMMER = (97.0, 97.1, 92.0, 97.05)


def test_an_engulfing_candle_speaks_for_its_own_side():
    shapes = candles(FALL, ENGULFING)
    votes = patterns.candle_votes(*shapes, everyone(shapes))
    assert votes[-2:, 0].tolist() == [0.0, 1.0]
    shapes = mirrored(shapes)
    assert patterns.candle_votes(*shapes, everyone(shapes))[-1, 0] == -1.0


def test_a_hammer_speaks_for_a_rise_and_a_hanging_man_against():
    shapes = candles((100.0, 100.1, 98.4, 98.5), (98.5, 98.6, 96.9, 97.0), HAMMER)
    assert patterns.candle_votes(*shapes, everyone(shapes))[-1, 0] == 1.0
    lifted = tuple(value + 8.0 for value in HAMMER)
    shapes = candles((100.0, 102.1, 99.9, 102.0), (102.0, 105.1, 101.9, 105.0), lifted)
    assert patterns.candle_votes(*shapes, everyone(shapes))[-1, 0] == -1.0


@pytest.mark.parametrize("distance", [0, 1, 2])
def test_a_pattern_needs_three_traded_bars(distance):
    shapes = candles(FALL, ENGULFING)
    traded = everyone(shapes)
    traded[len(traded) - 1 - distance] = False
    assert patterns.candle_votes(*shapes, traded)[-1, 0] == 0.0
    traded = everyone(shapes)
    traded[len(traded) - 4] = False
    assert patterns.candle_votes(*shapes, traded)[-1, 0] == 1.0


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**20])
def test_the_size_of_prices_does_not_matter(scale):
    rng = np.random.default_rng(5)
    close = 100.0 * np.exp(np.cumsum(rng.normal(size=(500, 2)) * 0.01, axis=0))
    opened = np.vstack([close[:1], close[:-1]])
    high = np.maximum(opened, close) * (1.0 + 0.004 * rng.random((500, 2)))
    low = np.minimum(opened, close) * (1.0 - 0.004 * rng.random((500, 2)))
    shapes = (opened, high, low, close)
    expected = patterns.candle_votes(*shapes, everyone(shapes))
    assert (expected > 0.0).any()
    assert (expected < 0.0).any()
    found = patterns.candle_votes(*(scale * each for each in shapes), everyone(shapes))
    assert np.array_equal(found, expected)


def test_a_close_beyond_the_range_before_votes():
    close = np.array([5.0, 6.0, 4.0, 5.0, 6.5, 6.5, 3.0])[:, np.newaxis]
    traded = np.ones(close.shape, dtype=bool)
    votes = patterns.breakout_votes(close, close, close, traded, 4)
    assert votes[:, 0].tolist() == [0.0, 0.0, -1.0, 0.0, 1.0, 0.0, -1.0]


def test_a_range_of_samples_is_none():
    close = np.array([5.0, 6.0, 4.0, 5.0, 6.5])[:, np.newaxis]
    traded = np.array([True, False, False, True, True])[:, np.newaxis]
    assert patterns.breakout_votes(close, close, close, traded, 4)[-1, 0] == 1.0
    traded[0] = False
    assert patterns.breakout_votes(close, close, close, traded, 4)[-1, 0] == 0.0
    traded[:] = True
    traded[-1] = False
    assert patterns.breakout_votes(close, close, close, traded, 4)[-1, 0] == 0.0
