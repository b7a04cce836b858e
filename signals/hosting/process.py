"""One process that runs one strategy file, and the frames to and from it, under time limits.

The process begins a session of its own with none of our secrets in its environment, and the kernel
kills it when we end, however we end. A call that takes too long ends with the process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from signals.hosting.limits import HostLimits
from signals.hosting.wire import (
    Array,
    ArraySpec,
    WireError,
    decode_arrays,
    encode,
    header_length,
    parse_header,
)
from signals.strategy import StrategyError

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parent.parent.parent
# For Python and NumPy to start on a machine that is busy with everything else.
START_S = 60.0
PIPE_BYTES = 1 << 20
CHUNK = 1 << 20
MAX_ARRAYS = 80
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class StrategyTimeout(StrategyError):
    """The strategy did not answer within its hard limit, and its process was killed."""


class StrategyCrashed(StrategyError):
    """The strategy's process ended, or sent what is no answer, and was killed."""


class HostProcess:
    """A running child. For one caller at a time; after any error but an answer's own it is dead."""

    def __init__(self, name: str, limits: HostLimits) -> None:
        self._name = name
        self._count = 0
        try:
            self._child = _spawner().submit(_spawn, limits).result()
        except (OSError, RuntimeError) as error:  # no process to be had, or we are ending
            raise StrategyCrashed(f"{name}: no process could be started: {error}") from None
        self._to, self._from = _ready_pipes(self._child)
        self._guarded(lambda: self._read_answer(time.monotonic() + START_S, 0), START_S)

    @property
    def is_fresh(self) -> bool:
        """Alive, and not talking out of turn."""
        if self._child.poll() is not None:
            return False
        return not _polled(self._from, select.POLLIN, 0)

    def ask(
        self,
        header: Mapping[str, Any],
        arrays: Mapping[str, Array],
        *,
        seconds: float,
        largest: int,
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Send a question and wait for its answer of at most `largest` bytes of arrays.

        Raises StrategyTimeout, StrategyCrashed.
        """
        self._count += 1
        parts = encode({**header, "id": self._count}, arrays)
        deadline = time.monotonic() + seconds

        def converse() -> tuple[dict[str, Any], dict[str, Array]]:
            for part in parts:
                self._write(part, deadline)
            return self._read_answer(deadline, largest)

        return self._guarded(converse, seconds)

    def kill(self) -> None:
        """End the process and all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._child.wait()

    def _guarded(self, talk: Callable[[], T], seconds: float) -> T:
        try:
            return talk()
        except _Late:
            self.kill()
            raise StrategyTimeout(f"{self._name}: no answer within {seconds:.3g} s") from None
        except (WireError, OSError) as error:
            self.kill()
            raise StrategyCrashed(f"{self._name}: {error}{self._last_words()}") from None
        except BaseException:
            self.kill()
            raise

    def _last_words(self) -> str:
        code = self._child.returncode
        return f" ({_ending(code)})" if code not in (None, -signal.SIGKILL) else ""

    def _read_answer(
        self, deadline: float, largest: int
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        length = header_length(bytes(self._read(4, deadline)))
        header, specs = parse_header(bytes(self._read(length, deadline)))
        if header.get("id") != self._count:
            raise WireError("it answered what it was not asked")
        return header, decode_arrays(specs, self._read(_payload(specs, largest), deadline))

    def _write(self, part: bytes | memoryview, deadline: float) -> None:
        view = memoryview(part)
        while view:
            self._wait(self._to, select.POLLOUT, deadline)
            try:
                view = view[os.write(self._to, view[:CHUNK]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise WireError("its process reads no questions any more") from None

    def _read(self, size: int, deadline: float) -> bytearray:
        found = bytearray()
        while len(found) < size:
            self._wait(self._from, select.POLLIN, deadline)
            try:
                piece = os.read(self._from, min(size - len(found), CHUNK))
            except BlockingIOError:
                continue
            if not piece:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.wait(timeout=0.2)
                raise WireError("its process ended without an answer")
            found += piece
        return found

    def _wait(self, descriptor: int, what: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not _polled(descriptor, what, left * 1000):
            raise _Late


class _Late(Exception):
    """The deadline has passed."""


def _polled(descriptor: int, what: int, milliseconds: float) -> bool:
    # Not select: it takes no descriptor above 1023.
    poll = select.poll()
    poll.register(descriptor, what)
    return bool(poll.poll(milliseconds))


def _ready_pipes(child: subprocess.Popen[bytes]) -> tuple[int, int]:
    """The descriptors to and from a child, that never block."""
    found = [-1 if pipe is None else pipe.fileno() for pipe in (child.stdin, child.stdout)]
    for descriptor in found:
        os.set_blocking(descriptor, False)
        with contextlib.suppress(OSError, AttributeError):  # smaller pipes only cost turns
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return found[0], found[1]


def _payload(specs: list[ArraySpec], largest: int) -> int:
    size = sum(spec.size for spec in specs)
    if size > largest or len(specs) > MAX_ARRAYS:
        raise WireError(f"an answer of {size} bytes in {len(specs)} arrays")
    return size


def _ending(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit status {code}"


def _spawn(limits: HostLimits) -> subprocess.Popen[bytes]:
    """Start a child. On the spawner's thread alone: the kernel ends it when that thread ends."""
    settings = json.dumps(dataclasses.asdict(limits))
    return subprocess.Popen(
        [sys.executable, "-s", "-P", "-m", "signals.hosting.child", str(os.getpid()), settings],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=_environment(),
        cwd=_empty_folder(),
        start_new_session=True,
        close_fds=True,
    )


def _environment() -> dict[str, str]:
    """No more than Python needs: whatever is secret in ours stays here."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(PROJECT),
        "PYTHONHASHSEED": "0",  # else the order of a set would differ from process to process
        "PYTHONDONTWRITEBYTECODE": "1",
        **dict.fromkeys(ONE_THREAD, "1"),
    }


_lock = threading.Lock()


def _spawner() -> ThreadPoolExecutor:
    """The one thread that starts children: it lives as long as this process does.

    The death signal follows the thread that started a child, and a caller's may end any time.
    """
    with _lock:
        return _spawner_of(os.getpid())


@cache
def _spawner_of(_pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="strategy-host")


@cache
def _folders(_pid: int) -> list[tempfile.TemporaryDirectory[str]]:
    return []


def _empty_folder() -> str:
    """Where children stand: a folder of no use to them, made again when it was cleaned away."""
    folders = _folders(os.getpid())
    if not folders or not os.path.isdir(folders[-1].name):
        folders.append(tempfile.TemporaryDirectory(prefix="mts-strategies-"))
    return folders[-1].name
