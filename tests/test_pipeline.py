"""End to end on PostgreSQL: two machines, real processes, one killed in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from websockets.sync.client import ClientConnection, connect

from mts_project.processes import free_port
from tests.plugins.valkey import running_valkey

PROJECT = Path(__file__).resolve().parents[1]
START = datetime(2025, 3, 3, tzinfo=UTC)
SPEED = 1800  # two seconds a bar: a signal later than that, and five, opens nothing
WARM_UP = timedelta(seconds=25)
PASSWORD = "only-for-this-test"
FIRST_MACHINE = "web,worker:signals,worker:trading"
SECOND_MACHINE = "collector,worker:alerts,worker:backtests"


@dataclass
class Desk:
    """An installation on two machines, and how to ask it things."""

    port: int
    database: str
    folder: Path
    environ: dict[str, str]
    machines: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    token: str = ""

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(psycopg2.connect(self.database)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchall()

    def count(self, table: str) -> int:
        ((number,),) = self.sql(f"SELECT count(*) FROM {table}")
        return int(number)

    def numbered_fills(self) -> int:
        ((number,),) = self.sql("SELECT count(*) FROM realtime_event WHERE topic = 'fills'")
        return int(number)

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data=data, timeout=30) as answer:
            return json.load(answer)

    def listen(self, topic: str, cursor: int) -> ClientConnection:
        ticket = self.call("/api/v1/ws-ticket/", {})["ticket"]
        query = f"ticket={ticket}&cursor={cursor}"
        return connect(f"ws://127.0.0.1:{self.port}/ws/{topic}/?{query}", proxy=None)

    def pid_of(self, process: str) -> int:
        """The process id that a supervisor's first lines name."""
        lines = [line for text in self.outputs() for line in text.splitlines()]
        (line,) = [line for line in lines if line.startswith(f"{process} ") and " pid " in line]
        return int(line.split(" pid ")[1].split()[0])

    def wait_until(self, what: str, is_so: Callable[[], bool], seconds: float = 200) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, f"no {what} in time\n{self.output()}"
            for name, machine in self.machines.items():
                assert machine.poll() is None, f"{name} ended\n{self.output()}"
            time.sleep(0.2)

    def outputs(self) -> list[str]:
        return [path.read_text() for path in sorted(self.folder.glob("*.out"))]

    def output(self) -> str:
        return "\n".join(self.outputs())


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="mts-desk-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of a new database on the run's PostgreSQL server."""
    server, _, _ = os.environ["DATABASE_URL"].rpartition("/")
    name = f"mts_desk_{os.getpid()}"
    with contextlib.closing(psycopg2.connect(os.environ["DATABASE_URL"])) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            yield f"{server}/{name}"
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sandbox() -> Iterator[tuple[str, datetime]]:
    """A seeded world: its address, and the wall moment at which its time is START."""
    port, anchor = free_port(), datetime.now(UTC) + WARM_UP
    command = [sys.executable, "-m", "sandbox", "--port", str(port), "--seed", "7"]
    command += ["--speed", str(SPEED), "--start", START.isoformat()]
    command += ["--anchor", anchor.isoformat()]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
    yield f"127.0.0.1:{port}", anchor
    child.terminate()
    child.wait(timeout=30)


@pytest.fixture
def desk(folder: Path, database: str, sandbox: tuple[str, datetime]) -> Iterator[Desk]:
    """Two supervisors that start at the same time on an empty database."""
    host, anchor = sandbox
    with running_valkey(folder) as redis_url:
        environ = {
            **os.environ,
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "MTS_DATA_DIR": str(folder / "data"),
            "COINGECKO_BASE_URL": f"http://{host}/coingecko/api/v3",
            "FRED_BASE_URL": f"http://{host}/fred/fred",
            "FRED_API_KEY": "a" * 32,
            "BINANCE_REST_URL": f"http://{host}/binance",
            "BINANCE_WS_URL": f"ws://{host}/binance",
            "BINANCE_SPOT_WS_URL": f"ws://{host}/binance/spot",
            "BYBIT_REST_URL": f"http://{host}/bybit",
            "BYBIT_WS_URL": f"ws://{host}/bybit/v5/public",
            "MTS_CLOCK_START": START.isoformat(),
            "MTS_CLOCK_ANCHOR": anchor.isoformat(),
            "MTS_CLOCK_SPEED": str(SPEED),
        }
        desk = Desk(port=free_port(), database=database, folder=folder, environ=environ)
        for name, only in (("first", FIRST_MACHINE), ("second", SECOND_MACHINE)):
            arguments = ["--only", only, "--port", str(desk.port)]
            with (folder / f"{name}.out").open("w") as output:
                desk.machines[name] = subprocess.Popen(
                    [sys.executable, "manage.py", "up", *arguments],
                    cwd=PROJECT,
                    env=environ,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
        try:
            yield desk
        finally:
            for machine in desk.machines.values():
                machine.kill()  # its children die with it
                machine.wait()


@pytest.mark.long(45)
@pytest.mark.timeout(600)
def test_a_desk_on_two_machines_trades_through_the_loss_of_a_worker(desk: Desk) -> None:
    desk.wait_until("web process", lambda: "nobody can log in yet" in desk.output())
    subprocess.run(
        [sys.executable, "manage.py", "createsuperuser", "--noinput"],
        cwd=PROJECT,
        env={
            **desk.environ,
            "DJANGO_SUPERUSER_USERNAME": "ada",
            "DJANGO_SUPERUSER_EMAIL": "",
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        },
        check=True,
        capture_output=True,
    )
    desk.token = desk.call("/api/v1/token/", {"username": "ada", "password": PASSWORD})["access"]

    # A subscriber sees the first fill; then it goes away, and so does the worker that trades.
    with desk.listen("fills", cursor=0) as stream:
        assert json.loads(stream.recv(timeout=30))["type"] == "hello"
        first = json.loads(stream.recv(timeout=200))
        assert first["type"] == "fill", first
    os.kill(desk.pid_of("worker:trading"), signal.SIGKILL)
    wanted = desk.numbered_fills() + 2
    desk.wait_until("fills after the kill", lambda: desk.numbered_fills() >= wanted)
    assert "worker:trading started again" in desk.output()

    # What it missed comes in order and without a gap, to the last row.
    with desk.listen("fills", cursor=first["seq"]) as stream:
        top = json.loads(stream.recv(timeout=30))["seq"]
        events = [first]
        while events[-1]["seq"] < top:
            events.append(json.loads(stream.recv(timeout=30)))
    assert len(events) >= 3
    assert all(later["prev"] == earlier["seq"] for earlier, later in pairwise(events))
    ((account,),) = desk.sql("SELECT id FROM trading_account")
    listed = desk.call(f"/api/v1/accounts/{account}/fills/")["results"]
    seen = {event["data"]["id"]: event["data"] for event in events}
    assert [seen[row["id"]] for row in listed if row["id"] in seen] == [
        row for row in listed if row["id"] in seen
    ]
    health = desk.call("/health/")
    assert health["components"]["database"]["status"] == "healthy"

    for machine in desk.machines.values():
        machine.send_signal(signal.SIGINT)
    began = time.monotonic()
    codes = [machine.wait(timeout=60) for machine in desk.machines.values()]
    assert codes == [0, 0], desk.output()
    assert time.monotonic() - began < 10
    assert_books_are_whole(desk)


def assert_books_are_whole(desk: Desk) -> None:
    """Every stage worked off every bar once, and the ledger balances to the last unit."""
    bars = [row[0] for row in desk.sql("SELECT bar_open_time FROM signals_barrun ORDER BY 1")]
    assert all(later - earlier == timedelta(hours=1) for earlier, later in pairwise(bars))
    ((cash, booked),) = desk.sql(
        "SELECT cash, (SELECT sum(amount) FROM trading_ledgerentry WHERE book = 'cash') "
        "FROM trading_account"
    )
    assert cash == booked
    doubled = desk.sql(
        "SELECT signal_id, leg FROM trading_order WHERE signal_id IS NOT NULL "
        "GROUP BY 1, 2 HAVING count(*) > 1"
    )
    assert doubled == []
    # A stop may come between a fill and its number; never more than the last ones lack theirs.
    assert desk.count("trading_fill") - desk.numbered_fills() <= 1
    files = list((desk.folder / "data" / "alerts").glob("*.json"))
    sent = desk.sql("SELECT count(*) FROM alerts_delivery WHERE transport = 'file'")[0][0]
    assert 0 < len(files) <= sent
