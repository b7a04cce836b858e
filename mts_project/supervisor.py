"""How a tree of child processes is kept alive, and how it ends: all of it, always.

Each child leads a session of its own, is killed by the kernel when this process dies (`leash`),
and so are its own children (`reaper`). A child that ends is started again after 1, 2, 4 ... 30
seconds; one that stays up for a minute has its patience back. Only the main thread may call
`start` and `tend`, because the kernel's death signal follows the thread that started a child;
`condemn` may be called from any thread.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
STEADY_AFTER_S = 60.0
STOP_BOUND_S = 2.5
LAST_STOP_BOUND_S = 0.7
POLL_S = 0.02
KEPT_LOGS = 3
LOG_LIMIT_BYTES = 50_000_000

_HERE = Path(__file__).resolve().parent
_PYTHON = (sys.executable, "-I", "-S")


class StartError(Exception):
    """A child ended, or did not become ready in time. The text is one line with its last words.

    `exit_code` is the child's, None when it still ran.
    """

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """One process: what to run, and what to tell people about it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    is_ready: Callable[[], bool] | None = None
    stops_last: bool = False
    node: str = ""  # what it is called as a Celery worker, to be pinged by


@dataclass(frozen=True, kw_only=True)
class ProcessState:
    """A process as people see it. `pid` is None between an end and the next start."""

    name: str
    pid: int | None
    restarts: int
    address: str
    node: str
    uptime_s: float


@dataclass
class _Child:
    spec: ProcessSpec
    log: Path
    popen: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restarts: int = 0
    delay_s: float = FIRST_DELAY_S
    due_at: float = 0.0


class Supervisor:
    """The parent of every process. `say` gets one line for each thing that people should know."""

    def __init__(self, *, log_dir: Path, cwd: Path, say: Callable[[str], None]) -> None:
        self._log_dir = log_dir
        self._cwd = cwd
        self._say = say
        self._children: dict[str, _Child] = {}
        self._condemned: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._reaper: subprocess.Popen[bytes] | None = None
        log_dir.mkdir(parents=True, exist_ok=True)

    def start(self, spec: ProcessSpec) -> int:
        """Start a process with a new log and return its pid."""
        log = self._log_dir / f"{spec.name.replace(':', '-')}.log"
        _rotate(log)
        child = self._children[spec.name] = _Child(spec=spec, log=log)
        return self._spawn(child)

    def wait_ready(self, name: str, *, timeout_s: float, is_stopping: Callable[[], bool]) -> None:
        """Return once the process is ready. Raises StartError when it ends or takes too long."""
        child = self._children[name]
        deadline = time.monotonic() + timeout_s
        while child.spec.is_ready is not None and not child.spec.is_ready():
            if is_stopping():
                return
            code = None if child.popen is None else child.popen.poll()
            if code is not None:
                words = last_line(child.log) or f"exit code {code}"
                raise StartError(f"{name} did not start: {words}", exit_code=code)
            if time.monotonic() > deadline:
                raise StartError(f"{name} is not ready after {timeout_s:.0f} s; see {child.log}")
            time.sleep(POLL_S)

    def tend(self) -> None:
        """One look at all children: collect who ended, start again whose pause is over."""
        self._kill_condemned()
        now = time.monotonic()
        for child in self._children.values():
            if child.popen is None:
                if now >= child.due_at:
                    child.restarts += 1
                    pid = self._spawn(child)
                    self._say(f"{child.spec.name} started again (pid {pid})")
            elif (code := child.popen.poll()) is not None:
                self._note_end(child, child.popen, code)
            _keep_small(child.log)

    def condemn(self, name: str, reason: str) -> None:
        """Have a process killed and started again by the next `tend`; from any thread."""
        self._condemned.put((name, reason))

    def states(self) -> list[ProcessState]:
        """Every process, in the order of their start."""
        now = time.monotonic()
        return [
            ProcessState(
                name=child.spec.name,
                pid=None if child.popen is None else child.popen.pid,
                restarts=child.restarts,
                address=child.spec.address,
                node=child.spec.node,
                uptime_s=0.0 if child.popen is None else now - child.started_at,
            )
            for child in list(self._children.values())
        ]

    def stop(self) -> None:
        """End everything, the last started first: SIGTERM, then SIGKILL after a bound."""
        children = list(reversed(self._children.values()))
        for is_last, bound in ((False, STOP_BOUND_S), (True, LAST_STOP_BOUND_S)):
            self._stop_all([c for c in children if c.spec.stops_last == is_last], bound)
        self._children.clear()
        if self._reaper is not None and self._reaper.stdin is not None:
            with suppress(BrokenPipeError):
                self._reaper.stdin.close()
            self._reaper.wait()
            self._reaper = None

    def _spawn(self, child: _Child) -> int:
        command = [*_PYTHON, str(_HERE / "leash.py"), str(os.getpid()), *child.spec.command]
        with child.log.open("ab") as output:
            child.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **child.spec.environment},
                start_new_session=True,
            )
        child.started_at = time.monotonic()
        self._tell_reaper([f"+{child.popen.pid}"])
        return child.popen.pid

    def _note_end(self, child: _Child, popen: subprocess.Popen[bytes], code: int) -> None:
        _kill_group(popen.pid)
        self._tell_reaper([f"-{popen.pid}"])
        uptime = time.monotonic() - child.started_at
        if uptime >= STEADY_AFTER_S:
            child.delay_s = FIRST_DELAY_S
        child.popen = None
        child.due_at = time.monotonic() + child.delay_s
        self._say(
            f"{child.spec.name} ended ({describe_exit(code)}) after {uptime:.0f} s, "
            f"starts again in {child.delay_s:.0f} s; log {child.log}"
        )
        child.delay_s = min(child.delay_s * 2, LONGEST_DELAY_S)

    def _kill_condemned(self) -> None:
        with suppress(Empty):
            while True:
                name, reason = self._condemned.get_nowait()
                child = self._children.get(name)
                if child is not None and child.popen is not None:
                    self._say(f"{name}: {reason}, killed")
                    _kill_group(child.popen.pid)

    def _stop_all(self, children: Sequence[_Child], bound_s: float) -> None:
        running = [child.popen for child in children if child.popen is not None]
        for popen in running:
            # Only the leader: each program knows best how to end its own children.
            popen.terminate()
        deadline = time.monotonic() + bound_s
        while time.monotonic() < deadline and any(popen.poll() is None for popen in running):
            time.sleep(POLL_S)
        for popen in running:
            _kill_group(popen.pid)
            popen.wait()
            self._tell_reaper([f"-{popen.pid}"])

    def _tell_reaper(self, lines: list[str]) -> None:
        if self._reaper is None:
            self._reaper = subprocess.Popen(
                [*_PYTHON, str(_HERE / "reaper.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            living = [c.popen.pid for c in self._children.values() if c.popen is not None]
            lines = [*(f"+{pid}" for pid in living), *lines]
        if self._reaper.stdin is None:
            return
        try:
            self._reaper.stdin.write("".join(f"{line}\n" for line in lines).encode())
            self._reaper.stdin.flush()
        except BrokenPipeError:
            self._reaper.wait()
            self._reaper = None
            self._tell_reaper([])


def describe_exit(code: int) -> str:
    """`exit code 1`, or the name of the signal that ended the process."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def last_line(log: Path) -> str:
    """The last line with text in a log, at most 300 characters; empty when there is none."""
    try:
        lines = log.read_bytes()[-4000:].decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _rotate(log: Path) -> None:
    """Move NAME.log to NAME.log.1 and so on, so that every start has its own."""
    for number in range(KEPT_LOGS, 0, -1):
        older = log if number == 1 else log.with_suffix(f".log.{number - 1}")
        if older.exists():
            older.replace(log.with_suffix(f".log.{number}"))


def _keep_small(log: Path) -> None:
    """Copy a log that grew too large aside and empty it; the child appends to the same file."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT_BYTES:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
