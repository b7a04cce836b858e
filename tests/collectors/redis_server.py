"""A Redis-protocol server that a test may kill, empty and set back."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.plugins.children import ServerError, log_tail, start_child
from tests.plugins.valkey import START_TIMEOUT_S, answers, valkey_binary


class RestartableRedis:
    """A server below `folder` that writes every change to its append-only file at once."""

    def __init__(self, folder: Path) -> None:
        self._home = folder / "home"
        self._kept = folder / "kept"
        self._log = folder / "log"
        self._child: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder / 'socket'}"
        self.client = redis.Redis.from_url(self.url, socket_timeout=2, retry=Retry(NoBackoff(), 1))

    def start(self) -> None:
        """Start with what the file holds."""
        self._home.mkdir(exist_ok=True)
        command: list[str | Path] = [valkey_binary(), "--port", "0"]
        command += ["--unixsocket", self.url.removeprefix("unix://"), "--dir", self._home]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        self._child = start_child(command, log=self._log, user=None, death_signal=signal.SIGKILL)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(self.url):
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"the server did not start:\n{log_tail(self._log)}")
            time.sleep(0.01)

    def kill(self) -> None:
        """What `kill -9` does."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def restart_empty(self) -> None:
        """Kill it, and start it without what it knew."""
        self.kill()
        shutil.rmtree(self._home)
        self.start()

    def keep(self) -> None:
        """Put a copy of the file aside."""
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self._home, self._kept)

    def restart_stale(self) -> None:
        """Kill it, and start it with what was kept."""
        self.kill()
        shutil.rmtree(self._home)
        shutil.copytree(self._kept, self._home)
        self.start()
