"""Patterns that candles and closes draw, as votes for a rise or a fall. Pure.

Arrays are (B, K). `traded` says which bars have an open, high, low and close that were traded; the
others, holes and bars made of price samples, have no shape, and no pattern is seen in them.
"""

from __future__ import annotations

import numpy as np

from signals.indicators import bars_since, previous_range, talib
from signals.strategy import BoolArray, FloatArray

CANDLE_BARS = 3  # the longest of the patterns
# TA-Lib's name, and +1 or -1 for a pattern that speaks for one side whatever its sign, 0 for one
# that speaks for the side of its sign. A market that never closes opens where it closed, so that
# patterns with a gap between bodies (stars, piercing lines, dark clouds) are not among them.
CANDLES = (
    ("CDLENGULFING", 0),
    ("CDL3INSIDE", 0),
    ("CDL3OUTSIDE", 0),
    ("CDLHAMMER", 1),
    ("CDLHANGINGMAN", -1),
)


def candle_votes(
    opened: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray, traded: BoolArray
) -> FloatArray:
    """How many more candle patterns of TA-Lib that end with a bar are bullish than bearish.

    Engulfing, three inside, three outside; hammer for, hanging man against. 0 unless the bar and
    the two before it were traded. How long a body or shadow has to be is TA-Lib's default, which
    compares with up to ten bars before.
    """
    votes = np.zeros(close.shape)
    for column in range(close.shape[1]):
        prices = [np.ascontiguousarray(each[:, column]) for each in (opened, high, low, close)]
        for name, side in CANDLES:
            found = np.sign(getattr(talib, name)(*prices))
            votes[:, column] += side * np.abs(found) if side else found
    return np.where(bars_since(~traded) >= CANDLE_BARS, votes, 0.0)


def breakout_votes(
    high: FloatArray, low: FloatArray, close: FloatArray, traded: BoolArray, window: int
) -> FloatArray:
    """1.0 where a traded bar closes above the highs of the `window` bars before it, -1.0 below
    their lows; 0 unless at least half of these were traded, else their range is one of samples."""
    top, bottom = previous_range(high, low, window)
    counted = np.cumsum(np.pad(traded, ((1, 0), (0, 0))), axis=0)[:-1]
    before = np.zeros_like(counted)
    before[window:] = counted[:-window]
    is_seen = traded & (2 * (counted - before) >= window)
    return np.where(is_seen, (close > top).astype(np.float64) - (close < bottom), 0.0)
