"""What the same capital would be worth, bought once and held. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def buy_and_hold(
    *, closes: NDArray[np.float64], known: NDArray[np.bool_], capital: float
) -> NDArray[np.float64]:
    """The worth (T,) of `capital` in equal parts in K instruments, at `closes` (T, K).

    Each part is bought at the first close that is `known`, (T, K), and is cash until then; it is
    never traded again, so costs nothing but what the price does. A close that is not known counts
    as the last one that was. Without instruments all stays cash.
    """
    marks, count = closes.shape
    if not marks or not count:
        return np.full(marks, capital)
    rows = np.where(known, np.arange(marks)[:, None], -1)
    newest = np.maximum.accumulate(rows, axis=0)
    prices = np.take_along_axis(closes, np.maximum(newest, 0), axis=0)
    bought_at = closes[known.argmax(axis=0), np.arange(count)]
    growth = np.where(newest >= 0, prices / bought_at, 1.0)
    worth: NDArray[np.float64] = capital * growth.mean(axis=1)
    return worth
