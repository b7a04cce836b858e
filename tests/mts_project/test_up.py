"""`manage.py up` refuses what it cannot do with one line, and leaves nothing behind."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mts_project.environment import ConfigurationError
from mts_project.launch import plan
from mts_project.processes import GROUPS, QUEUES, SERVICES, free_port, parse_only

PROJECT = Path(__file__).resolve().parents[2]


def run_up(*arguments: str, data: Path, seconds: float = 60, **environment: str):
    environ = {**os.environ, "DATABASE_URL": "", "REDIS_URL": "", "SECRET_KEY": ""}
    environ.update({"MTS_DATA_DIR": str(data), **environment})
    return subprocess.run(
        [sys.executable, "manage.py", "up", *arguments],
        cwd=PROJECT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def test_every_word_of_only_is_known() -> None:
    for word in (*SERVICES, *(f"worker:{queue}" for queue in QUEUES), *GROUPS):
        assert parse_only(word)
    assert parse_only("api") == ("web",)
    assert parse_only("collector") == ("worker:collect", "stream", "beat")
    assert parse_only("flower, web ,web") == ("web", "flower")
    assert parse_only("full") == (
        *("worker:io", "worker:compute", "stream", "beat", "web", "flower"),
    )


@pytest.mark.parametrize("text", ["", "web,", "worker", "worker:nothing", "Web"])
def test_an_unknown_word_of_only_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--only: '.*' is not one of web, beat"):
        parse_only(text)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--only", "nothing"], "'nothing'"),
        (["--port", "http"], "--port"),
        (["--port", "70000"], "--port"),
        (["--speed", "5"], "--speed needs --demo"),
        (["--demo", "--only", "web"], "--only"),
        (["--demo", "--speed", "0"], "--speed"),
        (["--demo", "--speed", "fast"], "'fast'"),
        (["--demo", "--speed", "nan"], "--speed"),
        (["--demo", "--seed", "1.5"], "--seed"),
        (["--demo", "--for", "-3"], "--for"),
        (["--demo", "--start", "soon"], "'soon'"),
        (["--demo", "--replay", "/no/such/folder"], "/no/such/folder"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_made(
    arguments: list[str], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTS_DATA_DIR", str(tmp_path / "data"))
    before = dict(os.environ)
    with pytest.raises(ConfigurationError) as caught:
        plan(arguments)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()
    assert dict(os.environ) == before


def test_a_refusal_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    assert_refused(run_up("--only", "nothing", data=tmp_path / "data"), "'nothing'")
    assert not (tmp_path / "data").exists()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        result = run_up("--demo", "--port", str(port), data=tmp_path / "data")
    assert_refused(result, f"port {port}", "taken")
    assert not (tmp_path / "data").exists()


def test_a_speed_above_1_against_a_real_provider_is_refused(tmp_path: Path) -> None:
    result = run_up(
        "--port",
        str(free_port()),
        data=tmp_path / "data",
        MTS_CLOCK_SPEED="10",
        BINANCE_REST_URL="https://fapi.binance.com",
    )
    assert_refused(result, "MTS_CLOCK_SPEED", "BINANCE_REST_URL")
    assert not (tmp_path / "data").exists()


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run_up("--demo", "--port", str(free_port()), data=tmp_path / "file" / "data")
    assert_refused(result, str(tmp_path / "file"))


def candle_file(folder: Path, text: str) -> None:
    with gzip.open(folder / "bitcoin_1h.csv.gz", "wt") as stream:
        stream.write(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["bitcoin_1h.csv.gz", "no candle"]),
        ("open_time,open,high,low,close,volume\n", ["bitcoin_1h.csv.gz", "no candle"]),
        ("a,b\n1,2\n", ["bitcoin_1h.csv.gz", "open_time"]),
        ("open_time,open,high,low,close,volume\nsoon,1,1,1,1,1\n", ["line 2", "soon"]),
    ],
)
def test_a_broken_replay_file_is_named(
    text: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTS_DATA_DIR", str(tmp_path / "data"))
    candle_file(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        plan(["--demo", "--replay", str(tmp_path), "--port", str(free_port())])
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_what_only_the_sandbox_notices_ends_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    history = tmp_path / "history"
    history.mkdir()
    candle_file(
        history,
        "open_time,open,high,low,close,volume\n"
        "2021-04-05T00:00:00Z,100,101,99,100,5\n"
        "2021-04-05T01:00:00Z,100,nonsense,99,100,5\n",
    )
    result = run_up(
        *("--demo", "--replay", str(history), "--start", "2021-04-05T01:00"),
        *("--port", str(free_port())),
        data=tmp_path / "data",
    )
    assert_refused(result, "bitcoin_1h.csv.gz", "3")
    assert not (tmp_path / "data").exists()


def test_ctrl_c_ends_everything_quickly_and_quietly(tmp_path: Path) -> None:
    environ = {**os.environ, "DATABASE_URL": "", "REDIS_URL": "", "MTS_DATA_DIR": str(tmp_path)}
    program = subprocess.Popen(
        [sys.executable, "manage.py", "up", "--only", "worker:alerts,beat"],
        cwd=PROJECT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        pids = started_pids(program, "beat")
        time.sleep(1)
        began = time.monotonic()
        program.send_signal(signal.SIGINT)
        output, errors = program.communicate(timeout=20)
        assert time.monotonic() - began < 5.0
    finally:
        program.kill()
        program.wait()
    assert (program.returncode, errors) == (0, "")
    assert "Traceback" not in output
    assert len(pids) == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def started_pids(program: subprocess.Popen[str], last: str) -> list[int]:
    """The pids of the lines `NAME pid N ADDRESS` up to the process named `last`."""
    pids = []
    assert program.stdout is not None
    for line in program.stdout:
        words = line.split()
        if words[1:2] == ["pid"]:
            pids.append(int(words[2]))
        if words[:1] == [last]:
            return pids
    raise AssertionError("it ended before everything had started")
