"""Buying and holding by hand."""

import numpy as np
import pytest

from trading.benchmark import buy_and_hold


def test_equal_parts_each_bought_at_its_first_close() -> None:
    closes = np.array([[10.0, 1.0], [20.0, 50.0], [0.0, 100.0], [5.0, 25.0]])
    known = np.array([[True, False], [True, True], [False, True], [True, True]])
    worth = buy_and_hold(closes=closes, known=known, capital=1_000.0)
    # The second is cash at first; the first carries its 20 through the hole.
    assert worth.tolist() == [1000.0, 1500.0, 2000.0, 500.0]


def test_what_never_had_a_price_stays_cash() -> None:
    none = np.zeros((3, 1), dtype=np.bool_)
    assert buy_and_hold(closes=np.ones((3, 1)), known=none, capital=7.0).tolist() == [7.0] * 3
    assert (
        buy_and_hold(closes=np.ones((2, 0)), known=np.ones((2, 0), bool), capital=7.0).sum() == 14
    )
    assert len(buy_and_hold(closes=np.ones((0, 2)), known=np.ones((0, 2), bool), capital=7.0)) == 0


def test_no_part_is_traded_again() -> None:
    closes = np.array([[1.0, 1.0], [3.0, 1.0], [1.0, 3.0]])
    worth = buy_and_hold(closes=closes, known=np.ones((3, 2), bool), capital=2.0)
    assert worth.tolist() == pytest.approx([2.0, 4.0, 4.0])
