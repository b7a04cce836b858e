"""A real web process on a loopback port, over the database of the test run."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection

from mts_project.processes import WEB_OPTIONS
from tests.collectors.redis_server import RestartableRedis

PROJECT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 90


@dataclass(frozen=True)
class WebProcess:
    """Where the process listens, and what it wrote."""

    port: int
    log: Path

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"


@pytest.fixture(scope="module")
def web_process(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebProcess]:
    """uvicorn as the product starts it; stopped before the database is dropped."""
    with running_web(tmp_path_factory.mktemp("web")) as process:
        yield process


@pytest.fixture
def own_redis() -> Iterator[RestartableRedis]:
    """A running Redis-protocol server of the test's own."""
    # A socket's path must be short, which a test's own folder is not.
    with tempfile.TemporaryDirectory(prefix="mts-redis-") as folder:
        server = RestartableRedis(Path(folder))
        server.start()
        yield server
        server.client.close()
        server.kill()


@pytest.fixture
def web_of_own_redis(
    own_redis: RestartableRedis, transactional_db: None, tmp_path: Path
) -> Iterator[WebProcess]:
    """A web process whose Redis the test may kill."""
    with running_web(tmp_path, REDIS_URL=own_redis.url) as process:
        yield process


@contextlib.contextmanager
def running_web(folder: Path, **environment: str) -> Iterator[WebProcess]:
    """A web process over the test run's database; its log goes below `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = urlsplit(os.environ["DATABASE_URL"])
    database = address._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    log = folder / "web.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "mts_project.asgi:application"),
                *("--host", "127.0.0.1", "--port", str(port)),
                *WEB_OPTIONS,
            ],
            cwd=PROJECT,
            env={**os.environ, "DATABASE_URL": database, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_open(child, port, log)
        yield WebProcess(port, log)
    finally:
        child.terminate()
        child.wait(timeout=10)


def _wait_until_open(child: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the web process did not start:\n{log.read_text()}")
