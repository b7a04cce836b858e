"""Ten processes on one call budget: does any provider ever see more than its limit?

    python -m benchmarks.budget                         # ten processes, 150 s, Redis lost twice
    python -m benchmarks.budget --calls markets --seconds 60 --losses 0

Each process asks as fast as the budget lets it, so that every limit is used up. In between, Redis
is killed with -9 and started again: first empty, then with an append-only file from the beginning.
The sandbox counts what arrives. Exit code 1 when a provider had to refuse a call, or when the
table of calls does not say exactly what the sandbox counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PROJECT = Path(__file__).resolve().parent.parent
START = datetime(2025, 3, 3, 10, 0, 30, tzinfo=UTC)
PAUSE_S = 0.05
LONGEST_END_S = 90.0


@dataclass(frozen=True)
class Call:
    """One call of a provider, its weight, and how many such calls a market minute has room for."""

    provider: str
    path: str
    params: dict[str, str | int]
    weight: int
    per_minute: int


CALLS = {
    "klines": Call(
        "binance",
        "/fapi/v1/klines",
        {
            "symbol": "BTCUSDT",
            "interval": "1h",
            "limit": 1500,
            "startTime": 1740900000000,
            "endTime": 1740910000000,
        },
        10,
        240,
    ),
    "tickers": Call("binance", "/fapi/v1/ticker/24hr", {}, 40, 60),
    "markets": Call("coingecko", "/coins/markets", {"vs_currency": "usd", "ids": "tether"}, 1, 30),
}


def main() -> int:
    """Run the processes and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", default="klines,markets", help=f"some of {', '.join(CALLS)}")
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=150.0, help="wall time")
    parser.add_argument("--speed", type=float, default=1.0, help="market seconds per second")
    parser.add_argument("--losses", type=int, choices=(0, 1, 2), default=2, help="of Redis")
    parser.add_argument("--database", default="", help="DATABASE_URL, migrated; a new SQLite file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work(given.calls.split(","))
    result = run(
        calls=given.calls,
        processes=given.processes,
        seconds=given.seconds,
        speed=given.speed,
        losses=given.losses,
        database=given.database,
    )
    if given.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0 if result["is_kept"] else 1


def run(
    *, calls: str, processes: int, seconds: float, speed: float, losses: int, database: str = ""
) -> dict[str, Any]:
    """Let `processes` ask for `seconds`, losing Redis `losses` times in between.

    Per provider: what the sandbox counted, its violations and 429 answers, what the table says, and
    how many calls a market minute has room for.
    """
    with tempfile.TemporaryDirectory(prefix="mts-budget-") as name:
        folder = Path(name)
        anchor = datetime.now(UTC)
        with _sandbox(speed, anchor) as address:
            environment = _environment(folder, address, speed, anchor, database)
            if not database:
                _manage(environment, "migrate", "--verbosity", "0")
            redis_server = _Redis(folder)
            redis_server.start()
            try:
                asked = _let_work(environment, redis_server, calls, processes, seconds, losses)
            finally:
                redis_server.kill()
            counted = _get(f"{address}/control/requests")
        table = _table(environment)
    providers = {}
    for call in (CALLS[name] for name in calls.split(",")):
        seen = counted.get(call.provider, {"total": 0, "limit_violations": 0, "statuses": {}})
        providers[call.provider] = {
            "counted": seen["total"],
            "in_table": table.get(call.provider, 0),
            "limit_violations": seen["limit_violations"],
            "answers_429": seen["statuses"].get("429", 0),
            "room_per_minute": call.per_minute,
            "market_minutes": round(seconds * speed / 60, 2),
        }
    return {
        "processes": processes,
        "speed": speed,
        "losses": losses,
        "ends": asked,
        "providers": providers,
        "is_kept": all(
            entry["limit_violations"] == entry["answers_429"] == 0
            and entry["counted"] == entry["in_table"] > 0
            for entry in providers.values()
        ),
    }


def work(names: list[str]) -> int:
    """One process: a thread for each call, asking until the wall time (epoch seconds) that it is
    told once it has said that it is ready. Prints how its calls ended, as JSON."""
    import django

    django.setup()
    print("ready", flush=True)
    until = float(sys.stdin.readline())
    ends: Counter[str] = Counter()
    threads = [threading.Thread(target=_ask, args=(CALLS[name], until, ends)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(ends))
    return 0


def _ask(call: Call, until: float, ends: Counter[str]) -> None:
    from django.conf import settings

    from collectors.budget import CallBudget, provider_limits
    from collectors.exchange import Connection, ProviderError, status_error
    from collectors.selectors import redis_client
    from collectors.services.calls import ProviderCallRecords

    def sleep(seconds: float) -> None:
        time.sleep(max(min(seconds, until - time.time()), 0))
        if time.time() >= until:
            raise _TimeIsOver

    variable = "BINANCE_REST_URL" if call.provider == "binance" else "COINGECKO_BASE_URL"
    connection = Connection(
        provider=call.provider,
        base_url=settings.PROVIDER_URLS[variable],
        budget=CallBudget(
            redis_client(),
            limits=provider_limits(coingecko_plan="none"),
            records=ProviderCallRecords(),
            sleep=sleep,
        ),
        timeout_s=10,
        read_error=lambda status, headers, body: status_error(status, headers, str(body[:200])),
    )
    while time.time() < until:
        try:
            connection.get(call.path, call.params, into=list[Any], weight=call.weight)
            ends["answered"] += 1
        except _TimeIsOver:
            return
        except ProviderError as error:
            ends[type(error).__name__] += 1
            wait = getattr(error, "retry_after", None) or PAUSE_S
            time.sleep(max(min(wait, until - time.time()), PAUSE_S))


def _let_work(
    environment: dict[str, str],
    redis_server: _Redis,
    calls: str,
    processes: int,
    seconds: float,
    losses: int,
) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.budget", "--calls", calls, "--work"]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=pipe, stdout=pipe, text=True)
        for _ in range(processes)
    ]
    try:
        if not all(worker.stdout and worker.stdout.readline() for worker in workers):
            raise SystemExit("a process did not start")
        began = time.time()
        until = began + seconds
        for worker in workers:
            if worker.stdin:
                worker.stdin.write(f"{until}\n")
                worker.stdin.flush()
        for number in range(losses):
            time.sleep(max(began + seconds * (0.2 + 0.35 * number) - time.time(), 0))
            if number == 0:
                redis_server.keep()
                redis_server.restart_empty()
            else:
                redis_server.restart_stale()
        ends: Counter[str] = Counter()
        for worker in workers:
            told, _ = worker.communicate(timeout=max(until - time.time(), 0) + LONGEST_END_S)
            ends.update(json.loads(told.splitlines()[-1]))
        return dict(ends)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


class _TimeIsOver(Exception):
    """A process that waits for its turn is to end."""


class _Redis:
    """A Redis-protocol server below `folder` that can be lost."""

    def __init__(self, folder: Path) -> None:
        self._home, self._kept = folder / "redis", folder / "kept"
        self.url = f"unix://{folder / 'socket'}"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        from mts_project.processes import redis_answers, redis_binary

        self._home.mkdir(exist_ok=True)
        command: list[str | Path] = [redis_binary(), "--port", "0", "--appendonly", "yes"]
        command += ["--unixsocket", self.url.removeprefix("unix://"), "--save", ""]
        command += ["--appendfsync", "always", "--dir", self._home, "--loglevel", "warning"]
        self._child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not redis_answers(self.url):
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the Redis-protocol server did not start")
            time.sleep(0.01)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def keep(self) -> None:
        shutil.copytree(self._home, self._kept)

    def restart_empty(self) -> None:
        self.kill()
        shutil.rmtree(self._home)
        self.start()

    def restart_stale(self) -> None:
        self.kill()
        shutil.rmtree(self._home)
        shutil.copytree(self._kept, self._home)
        self.start()


@contextmanager
def _sandbox(speed: float, anchor: datetime) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sandbox", "--port", str(port), "--seed", "7"]
    command += ["--start", START.isoformat(), "--speed", f"{speed:g}"]
    command += ["--anchor", anchor.isoformat()]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        line = child.stdout.readline() if child.stdout else ""
        if not line.startswith("sandbox ready"):
            raise SystemExit("the sandbox did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait(10)
        if child.stdout:
            child.stdout.close()


def _environment(
    folder: Path, address: str, speed: float, anchor: datetime, database: str
) -> dict[str, str]:
    data = folder / "data"
    data.mkdir(mode=0o700)
    socket_address = address.replace("http", "ws")
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "mts_project.settings",
        "DATABASE_URL": database,
        "REDIS_URL": f"unix://{folder / 'socket'}",
        "MTS_DATA_DIR": str(data),
        "MTS_CLOCK_START": START.isoformat(),
        "MTS_CLOCK_ANCHOR": anchor.isoformat(),
        "MTS_CLOCK_SPEED": f"{speed:g}",
        "LOG_LEVEL": "CRITICAL",
        "COINGECKO_BASE_URL": f"{address}/coingecko/api/v3",
        "FRED_BASE_URL": f"{address}/fred/fred",
        "BINANCE_REST_URL": f"{address}/binance",
        "BYBIT_REST_URL": f"{address}/bybit",
        "BINANCE_WS_URL": f"{socket_address}/binance",
        "BYBIT_WS_URL": f"{socket_address}/bybit/v5/public",
    }


def _manage(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(PROJECT / "manage.py"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _table(environment: dict[str, str]) -> dict[str, int]:
    """Calls by provider in the table."""
    script = (
        "import json; from django.db.models import Sum; "
        "from collectors.models import ProviderCallMinute as P; "
        "print(json.dumps(dict(P.objects.order_by().values_list('provider')"
        ".annotate(Sum('calls')))))"
    )
    return dict(json.loads(_manage(environment, "shell", "-v", "0", "-c", script)))


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def show(result: dict[str, Any]) -> None:
    """Print the table of a run."""
    title = f"{result['processes']} processes, speed {result['speed']:g}"
    table = Table(title=f"{title}, Redis lost {result['losses']} times")
    columns = ("counted", "in_table", "limit_violations", "answers_429", "room_per_minute")
    table.add_column("provider")
    for column in (*columns, "market_minutes"):
        table.add_column(column.replace("_", " "), justify="right")
    for provider, entry in result["providers"].items():
        table.add_row(provider, *(str(entry[column]) for column in (*columns, "market_minutes")))
    console = Console()
    console.print(table)
    ends = ", ".join(f"{count} {end}" for end, count in sorted(result["ends"].items()))
    console.print(f"as the processes saw it: {ends}")
    console.print("kept" if result["is_kept"] else "[bold]not kept[/bold]")


if __name__ == "__main__":
    sys.exit(main())
