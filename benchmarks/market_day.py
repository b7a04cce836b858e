"""What a market day costs: calls per provider as the sandbox counted them, and how fresh the
candles were.

    python -m benchmarks.market_day                       # the default source chain
    python -m benchmarks.market_day --sources coingecko   # CoinGecko alone

All processes run, on a market that moves `--speed` times as fast as the wall clock, for two market
days: the first with the history that a new installation fetches, the second as every day after.
Exit code 1 when a day costs more than stated or a provider had to say that it was too much.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PROJECT = Path(__file__).resolve().parent.parent
# A naive schedule's cost for the ten coins of CoinGecko and nine macro series, in calls a day.
MOST_CALLS = 393
MOST_COINGECKO_CALLS = 300
# With the streams on, the default sources, 15 instruments and nine macro series: what a day costs
# once the history is there.
DEFAULT_SOURCES = "binance,bybit,coingecko"
MOST_STREAMED_CALLS = 60
START = datetime(2025, 3, 3, tzinfo=UTC)
DAY = timedelta(days=1)
PROVIDERS = ("binance", "bybit", "coingecko", "fred")
LONGEST_START_S = 120.0

# Calls by provider and endpoint.
Counts = dict[str, dict[str, int]]


def main() -> int:
    """Run two market days and print what they cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sources", default=DEFAULT_SOURCES, help="CANDLE_SOURCES")
    parser.add_argument("--speed", type=float, default=900.0, help="market seconds per second")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="market-day-") as folder:
        result = run_days(Path(folder), sources=given.sources, speed=given.speed)
    if given.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0 if result["is_within"] else 1


def run_days(folder: Path, *, sources: str, speed: float) -> dict[str, Any]:
    """Two market days of a demo below `folder`; its calls by day and provider, and freshness."""
    seconds = 2 * DAY.total_seconds() / speed + 15
    environment = {**os.environ, "CANDLE_SOURCES": sources, "MTS_DATA_DIR": str(folder)}
    command = [
        *(sys.executable, str(PROJECT / "manage.py"), "up", "--demo", "--seed", "7"),
        *("--speed", f"{speed:g}", "--start", START.date().isoformat(), "--for", f"{seconds:.0f}"),
        *("--port", str(_free_port())),
    ]
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        address = _sandbox_address(log, process)
        counted: list[Counts] = [{name: {} for name in PROVIDERS}]
        counted += [_count_at(address, START + number * DAY, process) for number in (1, 2)]
        statuses = _get(address, "/control/requests")
        anchor = _anchor(address, speed)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    endpoints = [_difference(later, before) for before, later in itertools.pairwise(counted)]
    days = [{name: sum(calls.values()) for name, calls in day.items()} for day in endpoints]
    refused = {name: entry["statuses"].get("429", 0) for name, entry in statuses.items()}
    violations = {name: entry["limit_violations"] for name, entry in statuses.items()}
    database = next(folder.glob("**/mts.sqlite3"))
    return {
        "sources": sources,
        "speed": speed,
        "days": days,
        "endpoints_second_day": endpoints[1],
        "answers_429": refused,
        "limit_violations": violations,
        "freshness_s": freshness(database, anchor=anchor, speed=speed),
        "is_within": not any(refused.values())
        and not any(violations.values())
        and _is_cheap(sources, days),
    }


def _is_cheap(sources: str, days: list[dict[str, int]]) -> bool:
    """Whether the days cost no more than is stated for their sources."""
    if sources == "coingecko":
        return all(
            sum(day.values()) <= MOST_CALLS and day["coingecko"] <= MOST_COINGECKO_CALLS
            for day in days
        )
    return sources != DEFAULT_SOURCES or sum(days[1].values()) <= MOST_STREAMED_CALLS


def freshness(database: Path, *, anchor: datetime, speed: float) -> dict[str, dict[str, float]]:
    """By timeframe, percentiles of the time from a candle's close until its row was there, in
    wall seconds, over the candles that closed within the two days. A replaced candle knows when
    its last version came, not its first, and is left out."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            "SELECT timeframe, open_time, received_at FROM collectors_ohlcv WHERE open_time >= ? "
            "AND id NOT IN (SELECT candle_id FROM collectors_candlereplacement)",
            (START.isoformat(sep=" "),),
        ).fetchall()
    lengths = {"15m": timedelta(minutes=15), "1h": timedelta(hours=1)}
    ages: dict[str, list[float]] = {}
    for timeframe, opened, received in rows:
        close = datetime.fromisoformat(opened).replace(tzinfo=UTC) + lengths[timeframe]
        wall = datetime.fromisoformat(received).replace(tzinfo=UTC)
        ages.setdefault(timeframe, []).append(
            (wall - (anchor + (close - START) / speed)).total_seconds()
        )
    return {timeframe: _percentiles(sorted(values)) for timeframe, values in ages.items()}


def _percentiles(values: list[float]) -> dict[str, float]:
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    last = len(values) - 1
    return {name: round(values[round(share * last)], 3) for name, share in at.items()} | {
        "candles": float(len(values))
    }


def _anchor(address: str, speed: float) -> datetime:
    """The wall time at which market time was START."""
    told = _get(address, "/control/world")
    now = datetime.now(UTC)
    return now - (datetime.fromisoformat(told["market_time"]) - START) / speed


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _sandbox_address(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + LONGEST_START_S
    while time.monotonic() < deadline:
        found = re.search(r"sandbox.*?(http://127\.0\.0\.1:\d+)", log.read_text())
        if found:
            return found.group(1)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"the processes did not start:\n{log.read_text()}")


def _count_at(address: str, moment: datetime, process: subprocess.Popen[bytes]) -> Counts:
    """Calls by provider and endpoint when the sandbox's market time reaches `moment`."""
    while True:
        told = _get(address, "/control/world")
        if datetime.fromisoformat(told["market_time"]) >= moment:
            break
        if process.poll() is not None:
            raise SystemExit("the processes ended before the market days were over")
        time.sleep(0.05)
    counts = _get(address, "/control/requests")
    return {name: counts.get(name, {}).get("endpoints", {}) for name in PROVIDERS}


def _difference(later: Counts, before: Counts) -> Counts:
    """What was called between two counts, without the endpoints that were not."""
    return {
        name: {
            endpoint: calls - before[name].get(endpoint, 0)
            for endpoint, calls in later[name].items()
            if calls > before[name].get(endpoint, 0)
        }
        for name in later
    }


def _get(address: str, path: str) -> Any:
    """The sandbox's answer; it is named a moment before it listens."""
    deadline = time.monotonic() + LONGEST_START_S
    while True:
        try:
            with urllib.request.urlopen(f"{address}{path}", timeout=30) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def show(result: dict[str, Any]) -> None:
    """The result as tables for people."""
    title = f"calls in a market day, sources {result['sources']}, {result['speed']:g} x"
    calls = Table("day", *PROVIDERS, "all", title=title)
    for name, day in zip(("first, with history", "second"), result["days"], strict=True):
        calls.add_row(name, *(str(day[item]) for item in PROVIDERS), str(sum(day.values())))
    fresh = Table("timeframe", "candles", "p50", "p90", "p99", "max", title="close to row, wall s")
    for timeframe, ages in sorted(result["freshness_s"].items()):
        figures = [f"{ages[name]:.2f}" for name in ("p50", "p90", "p99", "max")]
        fresh.add_row(timeframe, f"{ages['candles']:.0f}", *figures)
    asked = Table("provider", "endpoint", "calls", title="the second day by endpoint")
    for provider, endpoints in result["endpoints_second_day"].items():
        for endpoint, number in sorted(endpoints.items(), key=lambda item: -item[1]):
            asked.add_row(provider, endpoint, str(number))
    console = Console()
    console.print(calls, asked, fresh)
    console.print(f"429 answers {result['answers_429']}, violations {result['limit_violations']}")
    console.print("within its bounds" if result["is_within"] else "NOT within its bounds")


if __name__ == "__main__":
    sys.exit(main())
