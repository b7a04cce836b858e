"""Which candles are impossible. Pure.

An impossible candle is counted and logged by whoever received it, and never stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from collectors.marketdata import Candle, duration, floor_time


def check_candle(candle: Candle, *, timeframe: str, now: datetime) -> str | None:
    """Why the candle cannot be true, None when it can. `now` is market time."""
    prices = (candle.open, candle.high, candle.low, candle.close)
    if not all(math.isfinite(price) for price in prices):
        return "a price is not finite"
    if min(prices) <= 0:
        return "a price is not positive"
    if candle.high < candle.low:
        return "high below low"
    if not candle.low <= candle.open <= candle.high:
        return "open outside low and high"
    if not candle.low <= candle.close <= candle.high:
        return "close outside low and high"
    if candle.volume is not None and not (math.isfinite(candle.volume) and candle.volume >= 0):
        return "volume is negative or not finite"
    if candle.open_time != floor_time(candle.open_time, timeframe):
        return "open time is not on the grid"
    if candle.open_time + duration(timeframe) > now:
        return "still forming"
    return None


def sift_candles(
    candles: Iterable[Candle], *, timeframe: str, now: datetime
) -> tuple[list[Candle], list[tuple[Candle, str]]]:
    """The possible candles, and the impossible ones with the reason."""
    possible: list[Candle] = []
    impossible: list[tuple[Candle, str]] = []
    for candle in candles:
        reason = check_candle(candle, timeframe=timeframe, now=now)
        if reason is None:
            possible.append(candle)
        else:
            impossible.append((candle, reason))
    return possible, impossible
