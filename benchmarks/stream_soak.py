"""A long run of the whole product while its streams and its Redis fail at random.

    python -m benchmarks.stream_soak                      # 30 minutes at 60 times real time
    python -m benchmarks.stream_soak --minutes 5 --seed 3 --json

`manage.py up --demo` runs against the sandbox. Messages are lost, doubled, reordered and spoilt,
connections end or fall silent, exchanges are away or start anew, and Redis is killed with -9; all
of it is drawn from `--seed`. Then nothing goes wrong for a while, and it is checked that no closed
candle and no funding settlement is missing, that each is the exchange's own, and that no book was
served that was not right. Exit code 1 when one of these laws is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.soak_books import BookWatcher
from benchmarks.soak_checks import (
    Law,
    Span,
    answer_of,
    book_messages,
    check_candles,
    check_funding,
    downtimes,
)
from benchmarks.soak_faults import Injector, plan

PROJECT = Path(__file__).resolve().parent.parent
START = datetime(2025, 3, 3, tzinfo=UTC)
LONGEST_START_S = 120.0
SAMPLE_EVERY_S = 10.0
# In the first minutes the memory still grows with what is loaded and followed.
SETTLING_S = 360.0
# At the end nothing goes wrong, until what was lost must have been repaired: within a bar.
BAR = timedelta(hours=1)
SHORTEST_CALM_S, LONGEST_CALM_S = 45.0, 120.0
# The last bars may just be on their way.
ON_ITS_WAY_S = 15.0
MOST_GROWTH_MIB_PER_HOUR = 30.0


def main() -> int:
    """Run, check, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=30.0, help="wall time of the mishaps")
    parser.add_argument("--speed", type=float, default=60.0, help="market seconds per second")
    parser.add_argument("--seed", type=int, default=7, help="of the world and of the mishaps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--keep", metavar="DIR", help="keep data and logs in this new folder")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if given.keep:
            folder = Path(given.keep).resolve()
            folder.mkdir(parents=True)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mts-soak-")))
        result = run(folder, seconds=given.minutes * 60, speed=given.speed, seed=given.seed)
    if given.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    return 0 if result["is_kept"] else 1


def run(folder: Path, *, seconds: float, speed: float, seed: int) -> dict[str, Any]:
    """So many seconds of mishaps in a demo below `folder`, then calm, then the checks."""
    with Demo(folder, speed=speed, seed=seed) as demo:
        injector = Injector(
            plan(seed=seed, seconds=seconds), sandbox=demo.sandbox, redis_pid=demo.redis_pid
        )
        watcher = BookWatcher(redis_url=demo.redis_url, sandbox=demo.sandbox, seed=seed)
        memory: list[tuple[float, float]] = []
        watcher.start()
        injector.start()
        _watch(demo, seconds, memory)
        injector.end()
        calm_s = min(max(BAR / timedelta(seconds=1) / speed * 1.2, SHORTEST_CALM_S), LONGEST_CALM_S)
        _watch(demo, calm_s, memory)
        states = watcher.end()
        span = Span(START, demo.market_time() - timedelta(seconds=ON_ITS_WAY_S * speed))
        with _truth(span.until, seed=seed) as truth:
            laws = check_candles(demo.database, truth, span)
            laws += check_funding(demo.database, truth, span)
        laws += [watcher.sane, watcher.true, _all_synced(states), _never_ended(demo)]
        slope = slope_per_hour(memory)
        grown = Law("the stream's memory does not grow", looked_at=len(memory))
        if slope is not None and seconds >= 1200 and slope > MOST_GROWTH_MIB_PER_HOUR:
            grown.broken.append(f"{slope:.1f} MiB an hour")
        downtime = downtimes(demo.database, now=datetime.now(UTC))
        messages = book_messages(demo.database)
        restarts = demo.restarts()
    rates = sorted(watcher.rates)
    return {
        "minutes": seconds / 60,
        "speed": speed,
        "seed": seed,
        "market_hours": round((span.until - span.since) / timedelta(hours=1), 2),
        "mishaps": dict(sorted(injector.done.items())),
        "unknown_mishaps": dict(sorted(injector.unknown.items())),
        "restarts": restarts,
        "book_messages": messages,
        "messages_per_s_p50": round(rates[len(rates) // 2], 1) if rates else None,
        "books": dict(watcher.found),
        "downtime": downtime,
        "memory": {
            "mib_per_hour": None if slope is None else round(slope, 2),
            "curve": [[round(at - memory[0][0]), round(mib, 1)] for at, mib in memory],
        },
        "laws": [law.told() for law in [*laws, grown]],
        "is_kept": all(law.is_kept for law in [*laws, grown]),
    }


class Demo:
    """The product as its users start it, against the sandbox; ended at the end of the block."""

    def __init__(self, folder: Path, *, speed: float, seed: int) -> None:
        self._folder = folder
        self._log = folder / "log"
        self._command = [
            *(sys.executable, str(PROJECT / "manage.py"), "up", "--demo", "--seed", f"{seed}"),
            *("--speed", f"{speed:g}", "--start", START.date().isoformat()),
            *("--port", f"{free_port()}"),
        ]

    def __enter__(self) -> Demo:
        environment = {**os.environ, "MTS_DATA_DIR": str(self._folder), "LOG_LEVEL": "INFO"}
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + LONGEST_START_S
        while "dashboard http" not in self._said():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the processes did not start:\n{self._said()}")
            time.sleep(0.2)
        self.sandbox = self._address("sandbox")
        self.redis_url = self._address("redis")
        self.database = next(self._folder.glob("demo-*/mts.sqlite3"))
        self.stream_pid = self._pid("stream")
        while self.market_time() < START:
            time.sleep(0.2)

    def is_up(self) -> bool:
        """Whether the supervisor runs."""
        return self._process.poll() is None

    def market_time(self) -> datetime:
        """The sandbox's market time."""
        told = answer_of(self.sandbox, "/control/world")["market_time"]
        return datetime.fromisoformat(told)

    def redis_pid(self) -> int | None:
        """The Redis server of this demo, if it runs."""
        pid = self._pid("redis")
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return None
        return pid if b"valkey" in command and os.fsencode(self._folder) in command else None

    def restarts(self) -> dict[str, int]:
        """How often each process was started again."""
        found: dict[str, int] = {}
        for name in re.findall(r"^(\S+) started again", self._said(), re.MULTILINE):
            found[name] = found.get(name, 0) + 1
        return found

    def _said(self) -> str:
        return self._log.read_text(errors="replace")

    def _address(self, name: str) -> str:
        found = re.search(rf"^{name} +pid \d+ +(\S+)", self._said(), re.MULTILINE)
        if found is None:
            raise SystemExit(f"no {name}:\n{self._said()}")
        return found.group(1)

    def _pid(self, name: str) -> int:
        """The newest pid of a process."""
        pattern = rf"^{name} +(?:pid (\d+)|started again \(pid (\d+)\))"
        found = re.findall(pattern, self._said(), re.MULTILINE)
        if not found:
            raise SystemExit(f"no {name}:\n{self._said()}")
        return int("".join(found[-1]))


def _watch(demo: Demo, seconds: float, memory: list[tuple[float, float]]) -> None:
    """Sample the memory of the stream process for so long."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if not demo.is_up():
            raise SystemExit("the supervisor has ended")
        with contextlib.suppress(OSError):
            memory.append((time.monotonic(), resident_mib(demo.stream_pid)))
        time.sleep(min(SAMPLE_EVERY_S, left))


def resident_mib(pid: int) -> float:
    """What a process holds in memory now. Raises OSError when there is none."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def slope_per_hour(memory: Sequence[tuple[float, float]]) -> float | None:
    """MiB an hour by least squares of (seconds, MiB), without the first minutes; None when too few
    samples are left."""
    settled = [item for item in memory if item[0] >= memory[0][0] + SETTLING_S]
    if len(settled) < 6:
        return None
    count = len(settled)
    mean_s, mean_mib = (sum(item[axis] for item in settled) / count for axis in (0, 1))
    over = sum((at - mean_s) * (mib - mean_mib) for at, mib in settled)
    return over / sum((at - mean_s) ** 2 for at, _ in settled) * 3600


def _all_synced(states: dict[str, bool]) -> Law:
    law = Law("every book is synchronised at the end", looked_at=len(states))
    law.broken += sorted(key for key, is_synced in states.items() if not is_synced)
    return law


def _never_ended(demo: Demo) -> Law:
    law = Law("the stream process runs from the first to the last", looked_at=1)
    if count := demo.restarts().get("stream"):
        law.broken.append(f"started again {count} times")
    return law


@contextlib.contextmanager
def _truth(until: datetime, *, seed: int) -> Iterator[str]:
    """A second sandbox of the same world, whose market time has just reached `until`."""
    port = free_port()
    anchor = datetime.now(UTC) - (until - START)
    command = [
        *(sys.executable, "-m", "sandbox", "--port", f"{port}", "--seed", f"{seed}"),
        *("--speed", "1", "--start", START.isoformat(), "--anchor", anchor.isoformat()),
    ]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        answer_of(address, "/control/world")
        yield address
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def show(result: dict[str, Any]) -> None:
    """The result as tables for people."""
    console = Console()
    console.print(
        f"{result['minutes']:g} minutes at speed {result['speed']:g}, seed {result['seed']}: "
        f"{result['market_hours']} market hours; {result['book_messages']:,} messages of books, "
        f"{result['messages_per_s_p50']} a second"
    )
    console.print("mishaps", result["mishaps"], "not known", result["unknown_mishaps"])
    console.print("started again", result["restarts"], "books as sampled", result["books"])
    table = Table("exchange", "reason", "count", "total s", "p50", "p99", "longest")
    table.title = "book downtime"
    for row in result["downtime"]:
        names = ("count", "total_s", "p50", "p99", "longest_s")
        table.add_row(row["exchange"], row["reason"], *(f"{row[name]:g}" for name in names))
    console.print(table)
    memory = result["memory"]
    curve = " ".join(f"{mib:.0f}" for _, mib in memory["curve"][::6])
    console.print(f"stream memory, MiB each minute: {curve}")
    console.print(f"slope {memory['mib_per_hour']} MiB an hour")
    laws = Table("law", "looked at", "broken", "", title="laws")
    for law in result["laws"]:
        words = "kept" if law["is_kept"] else "BROKEN " + "; ".join(law["examples"])
        laws.add_row(law["law"], f"{law['looked_at']}", f"{law['broken']}", words)
    console.print(laws)


if __name__ == "__main__":
    sys.exit(main())
