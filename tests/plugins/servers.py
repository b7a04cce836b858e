"""Pytest plugin: a real PostgreSQL and a real Redis-protocol server for each test process.

Loaded by `-p tests.plugins.servers`, because the Django plugin reads the settings before any
conftest is imported. The environment of the run is that of `.env.example` (so a developer's own
`.env` changes no test), with the servers' addresses, a temporary data folder, and providers at a
loopback port that nobody listens on: no test can reach a real one.

`MTS_TEST_DATABASE_URL` and `MTS_TEST_REDIS_URL` name servers to use instead of new ones. Their
`test_...` database is made and dropped, and the Redis database is emptied between tests, so that
they go with `-n0` only.
"""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from dotenv import dotenv_values

from tests.plugins.children import ServerError
from tests.plugins.postgres import running_postgres
from tests.plugins.valkey import running_valkey

PROJECT = Path(__file__).resolve().parents[2]
SOCKET_PATH_LIMIT = 107
NOBODY_LISTENS = "127.0.0.1:9"
UNREACHABLE = {
    "COINGECKO_BASE_URL": f"http://{NOBODY_LISTENS}/coingecko/api/v3",
    "FRED_BASE_URL": f"http://{NOBODY_LISTENS}/fred/fred",
    "BINANCE_REST_URL": f"http://{NOBODY_LISTENS}/binance",
    "BINANCE_WS_URL": f"ws://{NOBODY_LISTENS}/binance",
    "BINANCE_SPOT_REST_URL": f"http://{NOBODY_LISTENS}/binance",
    "BINANCE_SPOT_WS_URL": f"ws://{NOBODY_LISTENS}/binance/spot",
    "BYBIT_REST_URL": f"http://{NOBODY_LISTENS}/bybit",
    "BYBIT_WS_URL": f"ws://{NOBODY_LISTENS}/bybit/v5/public",
}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Set the environment, and start the servers unless nothing is going to run."""
    # A terminated run tidies up like an interrupted one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = early_config.known_args_namespace
    shows_only = bool(options.help or options.version or options.collectonly)
    # The process that only hands out tests needs none; each that runs tests has its own.
    hands_out = bool(options.numprocesses) and "PYTEST_XDIST_WORKER" not in os.environ
    with contextlib.ExitStack() as stack:
        try:
            prepare_environment(stack, with_servers=not (shows_only or hands_out))
        except ServerError as error:
            raise pytest.UsageError(str(error)) from None
        # Runs however the session ends, also when the loading of a conftest fails.
        early_config.add_cleanup(stack.pop_all().close)
    return (yield)


def prepare_environment(stack: contextlib.ExitStack, *, with_servers: bool) -> None:
    """Fill `os.environ` for the settings; `stack` takes what is to be stopped and removed.

    Without servers the addresses lead nowhere. Raises ServerError when a server fails; what
    was started before it is on the stack.
    """
    folder = _temporary_folder(stack)
    data = folder / "data"
    data.mkdir(mode=0o700)
    database = os.environ.get("MTS_TEST_DATABASE_URL", "")
    broker = os.environ.get("MTS_TEST_REDIS_URL", "")
    if with_servers:
        broker = broker or stack.enter_context(running_valkey(folder))
        database = database or stack.enter_context(running_postgres(folder))
    defaults = dotenv_values(PROJECT / ".env.example")
    os.environ.update({name: value or "" for name, value in defaults.items()})
    os.environ.update(UNREACHABLE)
    os.environ.update(
        DATABASE_URL=database or f"postgres://mts@{NOBODY_LISTENS}/mts",
        REDIS_URL=broker or f"redis://{NOBODY_LISTENS}/0",
        MTS_DATA_DIR=str(data),
        SECRET_KEY="only-for-the-tests-and-long-enough-for-every-signature",
    )


@pytest.fixture
def redis_client() -> Iterator["redis.Redis"]:
    """A client of the run's Redis database, which is empty before and after the test."""
    with contextlib.closing(redis.Redis.from_url(os.environ["REDIS_URL"])) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture(autouse=True)
def _empty_redis_after_database_tests(request: pytest.FixtureRequest) -> None:
    """Caches, counters and queued messages go when the rows they speak of go."""
    uses_database = {"db", "transactional_db"} & set(request.fixturenames)
    if uses_database or request.node.get_closest_marker("django_db"):
        request.getfixturevalue("redis_client")


def _temporary_folder(stack: contextlib.ExitStack) -> Path:
    """A new folder that other accounts may walk through, with a path short enough for sockets."""
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):
        walkable = all(part.stat().st_mode & 0o001 for part in (parent, *parent.parents))
        if walkable and len(str(parent / "mts-test-12345678/redis/socket")) <= SOCKET_PATH_LIMIT:
            break
    folder = Path(tempfile.mkdtemp(prefix="mts-test-", dir=parent))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o711)
    return folder
