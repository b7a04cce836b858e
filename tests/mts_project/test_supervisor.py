"""Children are kept alive, and nothing outlives the supervisor however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mts_project import supervisor as supervisor_module
from mts_project.supervisor import ProcessSpec, StartError, Supervisor
from mts_project.watchdog import SILENCE_BOUND_S, Watchdog

PROJECT = Path(__file__).resolve().parents[2]
LEASH = Path(supervisor_module.__file__).with_name("leash.py")
# A child with a child of its own, both deaf to SIGTERM, that tells both pids.
STUBBORN_FAMILY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    with open(sys.argv[1] + ".part", "w") as stream:
        stream.write(f"{os.getpid()} {child}")
    os.rename(sys.argv[1] + ".part", sys.argv[1])
while True:
    time.sleep(60)
"""
SUPERVISING_PROGRAM = """
import sys, time
from pathlib import Path
from mts_project.supervisor import ProcessSpec, Supervisor
family, pids, folder = sys.argv[1:]
supervisor = Supervisor(log_dir=Path(folder), cwd=Path(folder), say=print)
supervisor.start(ProcessSpec(name="family", command=(sys.executable, "-c", family, pids)))
while True:
    supervisor.tend()
    time.sleep(0.05)
"""


class Notes(list[str]):
    """What the supervisor said."""

    def with_word(self, word: str) -> list[str]:
        return [line for line in self if word in line]


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def supervisor(tmp_path: Path, notes: Notes) -> Iterator[Supervisor]:
    made = Supervisor(log_dir=tmp_path / "logs", cwd=tmp_path, say=notes.append)
    yield made
    made.stop()


def python_spec(name: str, code: str, *arguments: str, **others: object) -> ProcessSpec:
    command = (sys.executable, "-S", "-c", code, *arguments)
    return ProcessSpec(name=name, command=command, **others)  # type: ignore[arg-type]


def wait_for(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def tend_until(supervisor: Supervisor, condition: Callable[[], object]) -> None:
    def look() -> object:
        supervisor.tend()
        return condition()

    wait_for(look)


def test_a_child_that_ends_starts_again_after_growing_pauses(
    supervisor: Supervisor, notes: Notes
) -> None:
    supervisor.start(python_spec("brief", "raise SystemExit(3)"))
    began = time.monotonic()
    tend_until(supervisor, lambda: len(notes.with_word("ended")) == 2)
    assert time.monotonic() - began >= 1.0
    first, second = notes.with_word("ended")
    assert "brief ended (exit code 3)" in first and "again in 1 s" in first
    assert "again in 2 s" in second
    assert all("\n" not in line for line in notes)


def test_a_condemned_child_is_killed_and_started_again(
    supervisor: Supervisor, notes: Notes
) -> None:
    pid = supervisor.start(python_spec("stuck", "import time; time.sleep(60)"))
    supervisor.condemn("stuck", "does not answer")
    tend_until(supervisor, lambda: supervisor.states()[0].pid not in (None, pid))
    assert not is_alive(pid)
    assert notes[0] == "stuck: does not answer, killed"
    assert "SIGKILL" in notes[1]
    assert supervisor.states()[0].restarts == 1


def test_stop_is_quick_and_takes_deaf_grandchildren_along(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    told = tmp_path / "pids"
    supervisor.start(python_spec("family", STUBBORN_FAMILY, str(told)))
    supervisor.start(python_spec("store", "import time; time.sleep(60)", stops_last=True))
    wait_for(told.exists)
    pids = [int(word) for word in told.read_text().split()]
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < 5.0
    wait_for(lambda: not any(is_alive(pid) for pid in pids), seconds=1.0)


def test_kill_9_of_the_supervisor_leaves_no_process(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    program = subprocess.Popen(
        [sys.executable, "-c", SUPERVISING_PROGRAM, STUBBORN_FAMILY, str(told), str(tmp_path)],
        cwd=PROJECT,
    )
    try:
        wait_for(told.exists)
        below = descendants(program.pid)
        assert {int(word) for word in told.read_text().split()} < below
    finally:
        program.kill()
        program.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in below), seconds=3.0)


def descendants(root: int) -> set[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(folder.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


def test_a_child_whose_supervisor_is_gone_already_does_not_start(tmp_path: Path) -> None:
    done = tmp_path / "done"
    command = [sys.executable, "-I", "-S", str(LEASH), "999999999", "touch", str(done)]
    assert subprocess.run(command, check=False).returncode == 1
    assert not done.exists()


def test_a_command_that_does_not_exist_is_named(supervisor: Supervisor) -> None:
    supervisor.start(
        ProcessSpec(name="nothing", command=("/no/such/program",), is_ready=lambda: False)
    )
    with pytest.raises(StartError, match="nothing did not start: /no/such/program cannot be") as e:
        supervisor.wait_ready("nothing", timeout_s=10, is_stopping=lambda: False)
    assert e.value.exit_code == 127


def test_the_last_words_of_a_child_explain_why_it_did_not_start(supervisor: Supervisor) -> None:
    code = "import sys; print('the folder is empty', file=sys.stderr); sys.exit(2)"
    supervisor.start(python_spec("picky", code, is_ready=lambda: False))
    with pytest.raises(StartError) as caught:
        supervisor.wait_ready("picky", timeout_s=10, is_stopping=lambda: False)
    assert str(caught.value) == "picky did not start: the folder is empty"
    assert caught.value.exit_code == 2


def test_a_child_that_is_never_ready_is_given_up(supervisor: Supervisor) -> None:
    supervisor.start(python_spec("slow", "import time; time.sleep(60)", is_ready=lambda: False))
    with pytest.raises(StartError, match="not ready after 0 s"):
        supervisor.wait_ready("slow", timeout_s=0.1, is_stopping=lambda: False)


def test_every_start_has_a_log_of_its_own_and_older_ones_are_kept(
    tmp_path: Path, notes: Notes
) -> None:
    for word in ("first", "second", "third", "fourth", "fifth"):
        supervisor = Supervisor(log_dir=tmp_path, cwd=tmp_path, say=notes.append)
        supervisor.start(python_spec("worker:io", f"print({word!r}); import time; time.sleep(60)"))
        wait_for(lambda: (tmp_path / "worker-io.log").read_text())
        supervisor.stop()
    kept = {path.name: path.read_text().strip() for path in tmp_path.iterdir()}
    assert kept == {
        "worker-io.log": "fifth",
        "worker-io.log.1": "fourth",
        "worker-io.log.2": "third",
        "worker-io.log.3": "second",
    }


def test_the_reaper_is_replaced_when_somebody_kills_it(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    program = subprocess.Popen(
        [sys.executable, "-c", SUPERVISING_PROGRAM, STUBBORN_FAMILY, str(told), str(tmp_path)],
        cwd=PROJECT,
    )
    try:
        wait_for(told.exists)
        family = {int(word) for word in told.read_text().split()}
        reapers = descendants(program.pid) - family
        assert len(reapers) == 1
        os.kill(reapers.pop(), signal.SIGKILL)
        # The next start tells the new reaper of everything that runs.
        leader = int(told.read_text().split()[0])
        told.unlink()
        os.kill(leader, signal.SIGKILL)
        wait_for(told.exists)
        below = descendants(program.pid)
    finally:
        program.kill()
        program.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in below | family), seconds=3.0)


class SilentControl:
    """A Celery control whose workers answer as told."""

    def __init__(self) -> None:
        self.answers: list[dict[str, object]] | Exception = []
        self.control = self

    def ping(self, **_: object) -> list[dict[str, object]]:
        if isinstance(self.answers, Exception):
            raise self.answers
        return self.answers


def test_a_worker_that_answers_no_ping_for_30_seconds_is_condemned(
    supervisor: Supervisor, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    celery = SilentControl()
    watchdog = Watchdog(supervisor, celery, clock=lambda: now)  # type: ignore[arg-type]
    pid = supervisor.start(python_spec("worker", "import time; time.sleep(60)", node="w@host"))
    aged = replace(supervisor.states()[0], uptime_s=1000.0)
    monkeypatch.setattr(supervisor, "states", lambda: [aged])

    celery.answers = [{"w@host": {"ok": "pong"}}]
    watchdog.look()
    celery.answers = []
    now += SILENCE_BOUND_S - 1
    watchdog.look()
    celery.answers = ConnectionError("the broker is away")
    now += 2
    watchdog.look()
    supervisor.tend()
    assert is_alive(pid) and not notes

    celery.answers = []
    now += SILENCE_BOUND_S
    watchdog.look()
    supervisor.tend()
    assert notes[0] == "worker: no answer to a ping for 30 s, killed"
