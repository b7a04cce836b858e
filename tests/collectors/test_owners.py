"""A process is called dead only where that is certain."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from collectors.owners import LONGEST, Owner

linux_only = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
WHO = "from collectors.owners import Owner; print(Owner.of_this_process(), flush=True)"
PROJECT = Path(__file__).resolve().parents[2]


def test_an_owner_reads_as_it_was_written() -> None:
    owner = Owner.of_this_process()
    assert Owner.parse(str(owner)) == owner
    assert Owner.of_this_process() != owner
    longest = replace(owner, host="h" * 64, pid=2**22, start="9" * 20)
    assert len(str(longest)) <= LONGEST
    for text in ("", "host/boot/namespace/12/3", "host/boot/namespace/many/3/token", "////"):
        assert Owner.parse(text) is None


@linux_only
def test_a_process_that_was_killed_is_dead_before_and_after_its_parent_knows() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", f"{WHO}; import time; time.sleep(60)"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    assert child.stdout is not None
    owner = Owner.parse(child.stdout.readline().strip())
    child.stdout.close()
    me = Owner.of_this_process()
    assert owner is not None
    assert not owner.is_certainly_dead(seen_by=me)
    child.kill()
    # Its pid stays taken until it is waited for.
    waited = subprocess.run(
        [sys.executable, "-c", f"import time\nwhile open('/proc/{child.pid}/stat').read()"
         ".rpartition(')')[2].split()[0] != 'Z': time.sleep(0.01)"],
        timeout=20,
        check=True,
    )  # fmt: skip
    assert waited.returncode == 0
    assert owner.is_certainly_dead(seen_by=me)
    child.wait()
    assert owner.is_certainly_dead(seen_by=me)


@linux_only
def test_a_pid_that_was_given_to_another_process_is_not_the_owner() -> None:
    me = Owner.of_this_process()
    assert not me.is_certainly_dead(seen_by=me)
    assert replace(me, start="1").is_certainly_dead(seen_by=me)


@linux_only
@pytest.mark.parametrize("place", ["host", "boot", "namespace"])
def test_nobody_is_certain_of_a_process_elsewhere(place: str) -> None:
    me = Owner.of_this_process()
    dead = replace(me, start="1")
    assert not replace(dead, **{place: "elsewhere"}).is_certainly_dead(seen_by=me)


@pytest.mark.parametrize("part", ["boot", "namespace", "start"])
def test_nobody_is_certain_where_the_system_does_not_tell(part: str) -> None:
    me = replace(Owner.of_this_process(), boot="b", namespace="n", start="1")
    untold = replace(me, **{part: ""})
    assert not replace(untold, pid=2**22 + 1).is_certainly_dead(seen_by=untold)
