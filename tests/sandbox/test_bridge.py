"""Laws of the minutes inside an hour."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sandbox.bars import fold
from sandbox.bridge import MINUTES, minute_candles


@st.composite
def hours(draw: st.DrawFn) -> np.ndarray:
    """Any valid hours, shape (5, n)."""
    columns = []
    for _ in range(draw(st.integers(1, 4))):
        low = draw(st.integers(1, 10**9))
        high = low + draw(st.integers(0, 10**6))
        first, last = draw(st.integers(low, high)), draw(st.integers(low, high))
        columns.append([first, high, low, last, draw(st.integers(0, 10**13))])
    return np.array(columns, dtype=np.int64).T


@given(hours(), st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_sixty_minutes_meet_their_hour_exactly(bars: np.ndarray, key: int, first: int) -> None:
    numbers = np.arange(first, first + bars.shape[1], dtype=np.int64)
    minutes = minute_candles(bars, key, numbers)
    opens, highs, lows, closes, volumes = minutes
    folded, known = fold(minutes, np.ones(minutes.shape[1], dtype=np.bool_), MINUTES)
    assert known.all()
    assert (folded == bars).all()
    assert (lows <= np.minimum(opens, closes)).all()
    assert (highs >= np.maximum(opens, closes)).all()
    assert (volumes >= 0).all()
    inside = np.arange(minutes.shape[1]) % MINUTES != 0
    assert (opens[1:] == closes[:-1])[inside[1:]].all()


@given(hours(), st.integers(0, 2**64 - 1))
def test_an_hour_is_the_same_alone_and_in_company(bars: np.ndarray, key: int) -> None:
    numbers = np.arange(bars.shape[1], dtype=np.int64)
    together = minute_candles(bars, key, numbers)
    for index in numbers:
        alone = minute_candles(bars[:, [index]], key, numbers[[index]])
        assert (together[:, index * MINUTES : (index + 1) * MINUTES] == alone).all()


def test_holes_are_left_out_of_larger_candles() -> None:
    rows = np.array([[1, 5, 9], [3, 8, 9], [1, 4, 7], [2, 6, 8], [10, 20, 30]], dtype=np.int64)
    folded, known = fold(rows, np.array([False, True, True]), 3)
    assert known.tolist() == [True]
    assert folded[:, 0].tolist() == [5, 9, 4, 8, 50]
    folded, known = fold(rows, np.zeros(3, dtype=np.bool_), 3)
    assert known.tolist() == [False]
    assert folded[:, 0].tolist() == [0, 0, 0, 0, 0]
