"""Price samples as candles, and the windows to ask for them in. Pure.

GET /coins/{id}/market_chart/range gives hourly samples in windows of up to 90 days and 5-minute
samples where the window begins within the last day
(https://docs.coingecko.com/reference/coins-id-market-chart-range), so the last day is asked for by
itself. Steps are irregular and points may repeat, so samples are sorted, deduplicated and bucketed.
Such a candle has no true high and low (`is_sampled`), and no volume.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from collectors.coingecko.payloads import OhlcRow, Sample
from collectors.exchange import moment_of
from collectors.marketdata import EPOCH, Candle, floor_time

NAME = "coingecko"
WINDOW = timedelta(days=89)
# Where the last day begins, when asked until an hour ago at the earliest: aligned, so that what a
# bar is made of hardly depends on the minute of asking, and 11 to 23 hours before the end.
FINE_STEP = timedelta(hours=12)
FINE_AT_LEAST = timedelta(hours=11)


def windows(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """[start, end) in the windows to ask for, oldest first, the finely sampled one last."""
    fine = EPOCH + ((end - FINE_AT_LEAST - EPOCH) // FINE_STEP) * FINE_STEP
    cursor = start
    while cursor < end:
        stop = min(cursor + WINDOW, end if cursor >= fine else fine)
        yield cursor, stop
        cursor = stop


def sampled_candles(samples: Iterable[Sample], timeframe: str) -> list[Candle]:
    """Candles from price samples in any order: one for each bar that holds a sample.

    Open is the first price in the bar, close the last, high and low the extremes. A point that
    repeats a time counts once. Raises MalformedPayload for a time that cannot be.
    """
    prices = {
        point.at: point.price
        for point in samples
        if point.price is not None and math.isfinite(point.price)
    }
    buckets: dict[datetime, list[float]] = {}
    for at in sorted(prices):
        buckets.setdefault(floor_time(moment_of(at), timeframe), []).append(prices[at])
    return [
        Candle(
            open_time=open_time,
            open=bucket[0],
            high=max(bucket),
            low=min(bucket),
            close=bucket[-1],
            volume=None,
            source=NAME,
            is_sampled=True,
        )
        for open_time, bucket in buckets.items()
    ]


def ohlc_length(days: int) -> timedelta:
    """The length of the bars that ohlc gives for so many days
    (https://docs.coingecko.com/reference/coins-id-ohlc)."""
    if days <= 2:
        return timedelta(minutes=30)
    return timedelta(hours=4) if days <= 30 else timedelta(days=4)


def ohlc_candles(rows: Iterable[OhlcRow], length: timedelta, now: datetime) -> list[Candle]:
    """The closed bars of ohlc by their open times, oldest first.

    A row is stamped with the END of its bar; the last one is still forming and ends in the
    future. Raises MalformedPayload for a time that cannot be.
    """
    ends = {moment_of(row.end): row for row in rows}
    return [
        Candle(
            open_time=end - length,
            open=ends[end].open,
            high=ends[end].high,
            low=ends[end].low,
            close=ends[end].close,
            volume=None,
            source=NAME,
            is_sampled=True,
        )
        for end in sorted(ends)
        if end <= now
    ]
