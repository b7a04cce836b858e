"""The embedded path, end to end: SQLite, the private Redis, the sandbox and all processes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mts_project.processes import free_port

PROJECT = Path(__file__).resolve().parents[2]
SPEED = 1800  # two seconds a bar: a signal later than that, and five, opens nothing
SECONDS = 5  # and as much longer as this machine takes to the first row of every stage


@pytest.mark.long(20)
@pytest.mark.timeout(400)
def test_a_demo_fills_every_stage_and_ends_by_itself(tmp_path: Path) -> None:
    environ = {**os.environ, "MTS_DATA_DIR": str(tmp_path)}
    result = subprocess.run(
        [
            *(sys.executable, "manage.py", "up", "--demo", "--for", str(SECONDS)),
            *("--speed", str(SPEED), "--port", str(free_port())),
        ],
        cwd=PROJECT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert result.stderr == ""
    assert "what the demo has shown" in result.stdout
    (folder,) = tmp_path.glob("demo-*")
    (path,) = (folder / "reports").glob("demo_*.json")
    report = json.loads(path.read_text())
    run = report["execution_summary"]
    assert all(count > 0 for count in run["stages"].values())
    assert run["market_hours"] >= SECONDS
    assert run["ledgers"]["paper"]["is_balanced"]
    assert path.with_suffix(".html").read_text().startswith("<!doctype html>")
    assert list((folder / "alerts").glob("*.json"))
    with sqlite3.connect(folder / "mts.sqlite3") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert processes_below(folder) == []


def processes_below(folder: Path) -> list[str]:
    """Command lines of processes that still name the demo's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder) in command:
            found.append(command)
    return found
