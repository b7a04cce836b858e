"""From a bar's last candle to its signals, with all processes running on a sandbox."""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import datetime
from pathlib import Path

from benchmarks.measures import Measure
from benchmarks.signal_pass import PROJECT, hourly_strategies
from benchmarks.stream_soak import free_port

# At this speed a bar comes every four seconds.
SPEED, BARS, SECONDS_PER_BAR = 900, 40, 4
LONGEST_START_S = 600.0
# Wall seconds. A lost message is made up for by the sweep that comes every five.
MOST_P50_S, MOST_P99_S = 1.0, 6.0
# A row's receipt and a run's end are written just before their transactions commit. Runs before
# the first strategy was certified and enabled compute nothing and do not count.
QUERY = """
    SELECT run.finished_at, max(candle.received_at), run.signal_count
    FROM signals_barrun run JOIN collectors_ohlcv candle
      ON candle.timeframe = run.timeframe AND candle.open_time = run.bar_open_time
    WHERE run.state = 'done' AND run.timeframe = '1h' AND run.is_complete
      AND run.durations <> '{}'
      AND candle.id NOT IN (SELECT candle_id FROM collectors_candlereplacement)
    GROUP BY run.id ORDER BY run.bar_open_time
"""


def measure_live() -> list[Measure]:
    """Some 40 bars of a demo on SQLite with all strategies enabled."""
    with tempfile.TemporaryDirectory(prefix="signals-live-") as folder:
        log = run_demo(Path(folder))
        (database,) = Path(folder).glob("**/mts.sqlite3")
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            rows = connection.execute(QUERY).fetchall()
    # What came after its bar had been run was not waited for: a correction or a late source.
    waits = [
        (_moment(finished) - _moment(received)).total_seconds() for finished, received, _ in rows
    ]
    waited = sorted(wait for wait in waits if wait >= 0)
    if len(waited) < BARS // 2:
        raise RuntimeError(f"only {len(waited)} whole bars of {len(rows)} in {BARS}:\n{log}")
    p99 = waited[round(0.99 * (len(waited) - 1))]
    signals = sum(count for _, _, count in rows)
    told = f"{len(waited)} bars, {signals} signals, max {waited[-1]:.2f} s; {SPEED} x, SQLite"
    claim = "last candle's row to the bar's signals"
    return [
        Measure(f"{claim}, p50", statistics.median(waited), MOST_P50_S, "s", 1.0, told),
        Measure(f"{claim}, p99", p99, MOST_P99_S, "s", 1.0),
    ]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def run_demo(folder: Path, *, bars: int = BARS) -> str:
    """All processes, for `bars` hours of market time; what they printed. That some stage behind the
    signals has nothing to show yet, which is an error to a demo, is none here."""
    environment = {
        **os.environ,
        "MTS_DATA_DIR": str(folder),
        "ENABLED_STRATEGIES": ",".join(hourly_strategies()),
    }
    seconds = bars * SECONDS_PER_BAR
    with (folder / "log").open("w") as log:
        subprocess.run(
            [
                *(sys.executable, str(PROJECT / "manage.py"), "up", "--demo", "--seed", "7"),
                *("--speed", str(SPEED), "--for", str(seconds), "--port", str(free_port())),
            ],
            cwd=PROJECT, env=environment, stdout=log, stderr=subprocess.STDOUT,
            timeout=seconds + LONGEST_START_S, check=False,
        )  # fmt: skip
    return (folder / "log").read_text()
