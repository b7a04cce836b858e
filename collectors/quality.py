"""Which candles and quotes are impossible. Pure.

An impossible one is counted and logged by whoever received it, and never stored or handed on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from collectors.marketdata import Candle, Quote, duration, floor_time


def check_quote(quote: Quote) -> str | None:
    """Why nobody can trade at the quote, None when one can. A crossed book is possible: it is how
    two venues' messages may meet, and for the reader to judge."""
    values = (quote.best_bid, quote.bid_quantity, quote.best_ask, quote.ask_quantity)
    if not all(math.isfinite(value) and value > 0 for value in values):
        return "a price or a quantity is not positive and finite"
    return None


def check_candle(candle: Candle, *, timeframe: str, now: datetime) -> str | None:
    """Why the candle cannot be true and closed, None when it can. `now` is market time."""
    if candle.open_time > now - duration(timeframe):
        return "still forming"
    return check_bar(candle, timeframe=timeframe)


def check_bar(candle: Candle, *, timeframe: str) -> str | None:
    """Why the candle's values cannot be true, None when they can. Raises ValueError for an unknown
    timeframe."""
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
