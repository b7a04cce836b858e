"""The servers and processes of one run of the kill tests, and how each is killed and comes back.

A run has its own PostgreSQL, copied from a cluster that was made once, its own Redis-protocol
server with an append-only file, a trading worker and beat: the product's own processes under its
own supervisor and watchdog, which bring back whoever ended and whoever hangs, as they do in
production. Everything is killed with -9. PostgreSQL writes its log of transactions before
it answers a commit, as in production; only that the disk has it is not waited for, since no power
fails here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg2
import redis
from celery import Celery
from dotenv import dotenv_values

from benchmarks.stream_soak import free_port
from mts_project.processes import redis_binary
from mts_project.supervisor import ProcessSpec, Supervisor
from mts_project.watchdog import Watchdog
from tests.plugins.children import give_to, start_child, stop_child, unprivileged_user
from tests.plugins.postgres import initialise_cluster, usable_binaries
from tests.plugins.servers import UNREACHABLE

PROJECT = Path(__file__).resolve().parent.parent
POSTGRES_SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    "unix_socket_directories=",
    "listen_addresses=127.0.0.1",
    "timezone=UTC",
    "max_connections=60",
)
VICTIMS = ("worker", "beat", "redis", "postgres")
SERVERS = ("redis", "postgres")
LONGEST_START_S = 60.0


class WorldError(Exception):
    """A process did not come up; the message ends with its log."""


@dataclass
class Cluster:
    """A stopped PostgreSQL cluster with a migrated and seeded database, to be copied."""

    folder: Path
    binaries: Path
    user: str | None

    @property
    def files(self) -> Path:
        """The cluster's own folder."""
        return self.folder / "cluster"


def make_cluster(folder: Path, *, seed_module: str, environment: dict[str, str]) -> Cluster:
    """Initialise a cluster and let `python -m seed_module` fill its database."""
    user = unprivileged_user()
    folder.mkdir()
    give_to(folder, user)
    binaries = usable_binaries(folder, user)
    cluster = Cluster(folder=folder, binaries=binaries, user=user)
    initialise_cluster(binaries, cluster.files, log=folder / "initdb.log", user=user)
    port = free_port()
    server = start_postgres(cluster, cluster.files, port, folder / "postgres.log")
    try:
        url = f"postgres://mts@127.0.0.1:{port}/mts"
        with contextlib.closing(connect(f"postgres://mts@127.0.0.1:{port}/postgres")) as control:
            with control.cursor() as cursor:
                cursor.execute("CREATE DATABASE mts")
        seeded = subprocess.run(
            [sys.executable, "-m", seed_module],
            cwd=PROJECT,
            env={**environment, "DATABASE_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
        if seeded.returncode:
            raise WorldError(f"the database was not seeded:\n{seeded.stderr[-3000:]}")
    finally:
        stop_child(server, signal.SIGINT)
    return cluster


def start_postgres(cluster: Cluster, files: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start the server on `files`, again and again while what was killed still holds it."""
    options = [part for setting in POSTGRES_SETTINGS for part in ("-c", setting)]
    program = cluster.binaries / "postgres"
    command: list[str | Path] = [program, "-D", files, "-p", str(port), *options]
    deadline = time.monotonic() + LONGEST_START_S
    while True:
        child = start_child(command, log=log, user=cluster.user, death_signal=signal.SIGQUIT)
        while child.poll() is None:
            try:
                connect(f"postgres://mts@127.0.0.1:{port}/postgres").close()
            except psycopg2.OperationalError:
                time.sleep(0.02)
            else:
                return child
            if time.monotonic() > deadline:
                break
        if time.monotonic() > deadline:
            stop_child(child, signal.SIGKILL)
            raise WorldError(f"PostgreSQL did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def connect(url: str) -> Any:
    """A connection that commits each statement."""
    connection = psycopg2.connect(url, connect_timeout=5)
    connection.autocommit = True
    return connection


@dataclass
class FaultWorld:
    """One run's servers and processes; market time begins at `start` when it does."""

    folder: Path
    cluster: Cluster
    start: datetime
    anchor: datetime
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = free_port()
        self.database = f"postgres://mts@127.0.0.1:{self.port}/mts"
        self.socket = self.folder / "redis" / "socket"
        self.files = self.folder / "cluster"
        shutil.copytree(self.cluster.files, self.files)
        for path in (self.files, *self.files.rglob("*")):
            give_to(path, self.cluster.user)
        self.files.chmod(0o700)
        self.socket.parent.mkdir(mode=0o700)
        self.supervisor = Supervisor(log_dir=self.folder, cwd=PROJECT, say=self.said.append)
        # Its own application: the one of the product has the broker of its settings.
        broker = Celery(broker=f"redis+socket://{self.socket}", set_as_current=False)
        broker.conf.broker_transport_options = {"socket_timeout": 1.0}
        self.watchdog = Watchdog(self.supervisor, broker)

    @property
    def environment(self) -> dict[str, str]:
        """The product's environment."""
        return {
            **world_environment(self.folder),
            "DATABASE_URL": self.database,
            "REDIS_URL": f"unix://{self.socket}",
            "MTS_CLOCK_START": self.start.isoformat(),
            "MTS_CLOCK_ANCHOR": self.anchor.isoformat(),
            "MTS_CLOCK_SPEED": "1",
        }

    def start_all(self) -> None:
        """Start everything."""
        for name in SERVERS:
            self.bring_back(name)
        for spec in self._supervised():
            self.supervisor.start(spec)
        self.watchdog.start()

    def tend(self) -> None:
        """Let the supervisor look after its processes, as it does all the time; from the thread
        that started them."""
        self.supervisor.tend()

    def kill(self, name: str) -> None:
        """kill -9, the process and all that it started."""
        if name not in SERVERS:
            for state in self.supervisor.states():
                if state.name == name and state.pid is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(state.pid, signal.SIGKILL)
            return
        child = self.children[name]
        with contextlib.suppress(ProcessLookupError):
            if name == "postgres":
                child.kill()  # its own children notice, and must not be asked
            else:
                os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def bring_back(self, name: str) -> None:
        """Start a server that does not run; who is supervised comes back by itself."""
        if name == "postgres":
            log = self.folder / "postgres.log"
            self.children[name] = start_postgres(self.cluster, self.files, self.port, log)
        elif name == "redis":
            self.children[name] = self._start_redis()

    def stop_all(self) -> None:
        """Stop everything, hard: nothing of it is wanted any more."""
        self.watchdog.close()
        for state in self.supervisor.states():
            self.kill(state.name)
        self.supervisor.stop()
        for name in SERVERS:
            if name in self.children and self.children[name].poll() is None:
                if name == "postgres":
                    stop_child(self.children[name], signal.SIGQUIT)
                else:
                    self.kill(name)

    def _start_redis(self) -> subprocess.Popen[bytes]:
        home = self.socket.parent
        command: list[str | Path] = [redis_binary(), "--port", "0", "--unixsocket", self.socket]
        command += ["--dir", home, "--appendonly", "yes", "--save", "", "--daemonize", "no"]
        child = start_child(
            command, log=self.folder / "redis.log", user=None, death_signal=signal.SIGKILL
        )
        deadline = time.monotonic() + LONGEST_START_S
        client = redis.Redis.from_url(f"unix://{self.socket}", socket_timeout=1.0)
        with contextlib.closing(client):
            while True:
                try:
                    client.ping()
                    return child
                except redis.RedisError:
                    if time.monotonic() > deadline:
                        raise WorldError("the Redis-protocol server did not start") from None
                    time.sleep(0.01)

    def _supervised(self) -> Iterator[ProcessSpec]:
        celery = (sys.executable, "-m", "celery", "-A", "mts_project")
        node = f"faults-{os.getpid()}@localhost"
        yield ProcessSpec(
            name="worker",
            command=(
                *(*celery, "worker", "--hostname", node, "--queues", "trading"),
                *("--pool", "threads", "--concurrency", "4"),
                *("--without-gossip", "--without-mingle"),
            ),
            environment=self.environment,
            node=node,
        )
        yield ProcessSpec(name="beat", command=(*celery, "beat"), environment=self.environment)


def world_environment(folder: Path) -> dict[str, str]:
    """What `.env.example` says, with providers that nobody can reach and a data folder here."""
    defaults = {k: v or "" for k, v in dotenv_values(PROJECT / ".env.example").items()}
    return {
        **os.environ,
        **defaults,
        **UNREACHABLE,
        "MTS_DATA_DIR": str(folder / "data"),
        "SECRET_KEY": "only-for-the-kill-tests-and-long-enough-for-every-signature",
    }


@contextlib.contextmanager
def running_world(
    folder: Path, cluster: Cluster, *, start: datetime, anchor: datetime
) -> Iterator[FaultWorld]:
    """A world that runs; it is stopped and removed afterwards."""
    folder.mkdir()
    folder.chmod(0o711)
    world = FaultWorld(folder=folder, cluster=cluster, start=start, anchor=anchor)
    try:
        world.start_all()
        yield world
    finally:
        world.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
