"""From a signal's row to its committed fill and to the subscribers, with all processes running."""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from benchmarks.measures import Measure
from benchmarks.signal_live import SPEED, run_demo

# Risk lets few of the signals open anything.
BARS = 100
# Wall seconds. What a message loses is made up for by the sweep that comes every five.
MOST_P50_S, MOST_P99_S = 0.25, 6.0
# Moments of the wall clock: when the signal's row and the fill were written, when the fill got its
# number in the stream, and when the newest candle of the bar was received.
QUERY = """
    SELECT signal.created_at, fill.recorded_at, event.numbered_at,
           (SELECT max(candle.received_at) FROM collectors_ohlcv candle
            WHERE candle.timeframe = '1h' AND candle.open_time = signal.bar_open_time)
    FROM trading_fill fill
    JOIN trading_order ordered ON ordered.id = fill.order_id
    JOIN signals_signal signal ON signal.id = ordered.signal_id
    JOIN realtime_event event ON event.topic = 'fills' AND event.row_id = fill.id
    ORDER BY fill.id
"""


def measure_trading_live() -> list[Measure]:
    """A hundred bars of a demo on SQLite with all strategies enabled."""
    with tempfile.TemporaryDirectory(prefix="trading-live-") as folder:
        log = run_demo(Path(folder), bars=BARS)
        (database,) = Path(folder).glob("**/mts.sqlite3")
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            rows = connection.execute(QUERY).fetchall()
    moments = [[datetime.fromisoformat(text) for text in row] for row in rows]
    if len(moments) < 10:
        raise RuntimeError(f"only {len(moments)} fills of signals:\n{log}")
    # What came after its bar had been run was not waited for: a correction or a late source.
    waited = [row for row in moments if row[3] <= row[0]]
    told = f"{len(moments)} fills; {SPEED} x, SQLite"
    return [
        *_percentiles("signal's row to its fill", moments, 0, 1, told),
        *_percentiles("fill to its number in the stream", moments, 1, 2, told),
        *_percentiles("last candle's row to the fill's number", waited, 3, 2, told, bound=None),
    ]


def _percentiles(
    claim: str,
    moments: Sequence[Sequence[datetime]],
    begin: int,
    end: int,
    told: str,
    bound: float | None = 1.0,
) -> list[Measure]:
    waits = sorted((row[end] - row[begin]).total_seconds() for row in moments)
    if not waits:
        return []
    p99 = waits[round(0.99 * (len(waits) - 1))]
    return [
        Measure(
            f"{claim}, p50",
            statistics.median(waits),
            MOST_P50_S,
            "s",
            bound,
            f"{len(waits)} of {told}",
        ),
        Measure(f"{claim}, p99", p99, MOST_P99_S, "s", bound),
    ]
