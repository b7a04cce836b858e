"""Starting and ending the world from a command line."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the world with arguments that must not let it start."""
    return subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--port", "70000"], "70000"),
        (["--start", "tomorrow"], "tomorrow"),
        (["--speed", "-3"], "-3"),
        (["--replay", "/no/such/folder"], "/no/such/folder"),
        (["--stream-rate", "0.5"], "0.5"),
        (["--more-coins", "9"], "9"),
        (["--unheard-of"], "--unheard-of"),
    ],
)
def test_bad_arguments_are_named_in_one_line(arguments: list[str], named: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert named in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_broken_replay_and_a_start_outside_of_it_are_named(tmp_path: Path) -> None:
    file = tmp_path / "bitcoin_1h.csv"
    file.write_text("open_time,open,high,low,close,volume\n2022-03-01T00:00:00Z,1,1,1,1\n")
    done = run("--replay", str(tmp_path))
    assert done.returncode == 2
    assert f"{file}, line 2" in done.stderr
    file.write_text("open_time,open,high,low,close,volume\n2022-03-01T00:00:00Z,1,1,1,1,1\n")
    done = run("--replay", str(tmp_path), "--start", "2021-01-01")
    assert done.returncode == 2
    assert "2022-03-01" in done.stderr and done.stderr.count("\n") == 1


def test_a_check_says_the_span_and_serves_nothing(tmp_path: Path) -> None:
    header = "open_time,open,high,low,close,volume"
    rows = [f"2022-0{month}-01T00:00:00Z,1,1,1,1,1" for month in (1, 3, 6)]
    (tmp_path / "bitcoin_1h.csv").write_text("\n".join([header, *rows]))
    done = run("--check", "--replay", str(tmp_path), "--start", "2022-03-01T12:00")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "start": "2022-03-01T12:00:00+00:00",
        "end": "2022-06-01T01:00:00+00:00",
        "symbols": ["BTCUSDT"],
    }
    done = run("--check", "--start", "2022-03-01")
    assert json.loads(done.stdout) == {"start": "2022-03-01T00:00:00+00:00"}
    for arguments, said in [
        (["--start", "2022-04-01"], "no coin has a candle within a day of 2022-04-01"),
        ([], "no coin has a candle within a day of 2022-02-10"),  # forty days after the first
        (["--start", "2022-06-01T01:00"], "goes from 2022-01-01"),
    ]:
        done = run("--check", "--replay", str(tmp_path), *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr and done.stderr.count("\n") == 1


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("--port", port)
    assert done.returncode == 2
    assert port in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_quietly(start: Callable[..., Any], number: signal.Signals) -> None:
    world = start("--speed", "60")
    assert world.get("/binance/fapi/v1/ping") == {}
    world.process.send_signal(number)
    assert world.process.wait(5) == 0


def test_market_time_runs_from_the_anchor(start: Callable[..., Any]) -> None:
    world = start("--start", "2024-01-01", "--anchor", "2026-01-01", "--speed", "2")
    described = world.get("/control/world")
    assert described["start"] == "2024-01-01T00:00:00Z"
    assert described["market_time"] >= "2024-01-01"
    assert described["seed"] == 1 and described["kind"] == "seeded"
    assert {"VIXCLS", "DFF", "SOFR"} <= set(described["series"])
    assert {row["coin"] for row in described["instruments"]} >= {"bitcoin", "tether"}
