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

from mts_project.environment import PROVIDER_URLS, ConfigurationError
from mts_project.launch import plan
from mts_project.processes import (
    GROUPS,
    QUEUES,
    SERVICES,
    Ports,
    free_port,
    parse_only,
    product_specs,
    with_watch,
)
from tests.permissions import bound_by_permissions

PROJECT = Path(__file__).resolve().parents[2]


def run_up(*arguments: str, data: Path, seconds: float = 180, **environment: str):
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
        preexec_fn=bound_by_permissions,
    )


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    assert result.stdout == ""
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


def test_a_folder_of_alerts_is_watched_where_signals_are_computed() -> None:
    assert with_watch(("worker:signals", "beat")) == ("worker:signals", "beat", "watch")
    assert with_watch(parse_only("full"))[-1] == "watch"
    assert with_watch(parse_only("collector")) == parse_only("collector")
    specs = product_specs(
        ("watch",), bind="127.0.0.1", ports=Ports(web=0, flower=0), data_dir=Path()
    )
    assert [spec.command[-1] for spec in specs] == ["watch_alerts"]


@pytest.mark.parametrize("text", ["", "web,", "worker", "worker:nothing", "Web"])
def test_an_unknown_word_of_only_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--only: '.*' is not one of web, beat"):
        parse_only(text)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--only", "nothing"], "'nothing'"),
        (["--only", ""], "--only"),
        (["--verbosity", "9"], "--verbosity"),
        (["--port", "http"], "--port"),
        (["--port", "70000"], "--port"),
        (["--speed", "5"], "--speed needs --demo"),
        (["--demo", "--only", "web"], "--only"),
        (["--demo", "--speed", "0"], "--speed"),
        (["--demo", "--speed", "fast"], "'fast'"),
        (["--demo", "--speed", "nan"], "--speed"),
        (["--demo", "--speed", ""], "--speed"),
        (["--demo", "--seed", "1.5"], "--seed"),
        (["--demo", "--seed", "x"], "--seed"),
        (["--demo", "--for", "nan"], "--for"),
        (["--demo", "--for", "-3"], "--for"),
        (["--demo", "--start", "soon"], "'soon'"),
        (["--demo", "--start", "0001-01-01T00:00+10:00"], "--start"),
        (["--demo", "--start", "1800-01-01"], "between 2000 and 2100"),
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


def test_an_address_of_another_machine_is_not_called_taken(tmp_path: Path) -> None:
    result = run_up("--port", "8000", data=tmp_path / "data", MTS_BIND="192.0.2.1")
    assert_refused(result, "192.0.2.1", "cannot be used", "MTS_BIND")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("REDIS_URL", "redis://127.0.0.1:9", "no Redis server"),
        ("DATABASE_URL", "postgresql://127.0.0.1:9/mts", "refused"),
        ("ENABLED_STRATEGIES", "mean_reversion,astrology", "'astrology'"),
        ("MTS_CLOCK_SPEED", "abc", "'abc'"),
        ("MTS_STRATEGY_DIR", "/dev/null/strategies", "cannot be read"),
        ("WATCH_ALERTS_DIR", "/dev/null/bots", "is not a folder"),
    ],
)
def test_a_setting_that_cannot_work_is_named_before_anything_starts(
    name: str, value: str, word: str, tmp_path: Path
) -> None:
    result = run_up("--port", str(free_port()), data=tmp_path / "data", **{name: value})
    assert_refused(result, name, word)
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


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "closed"])
@pytest.mark.parametrize("arguments", [["--demo"], ["--only", "beat"]], ids=["demo", "up"])
def test_a_data_folder_in_a_folder_of_others_is_named(
    arguments: list[str], mode: int, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    others.mkdir(mode=mode)
    result = run_up(*arguments, "--port", str(free_port()), data=others / "data")
    assert_refused(result, f"MTS_DATA_DIR {others / 'data'} cannot be written")


HEADER = "open_time,open,high,low,close,volume\n"
CANDLES = HEADER + "".join(
    f"2021-04-{day:02}T{hour:02}:00:00Z,100,101,99,100,5\n"
    for day in range(5, 8)
    for hour in range(24)
)


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("", [], ["bitcoin_1h.csv.gz", "is empty"]),
        (HEADER, [], ["bitcoin_1h.csv.gz", "no rows"]),
        ("a,b\n1,2\n", [], ["bitcoin_1h.csv.gz", "line 1", "open_time"]),
        (CANDLES + "soon,1,1,1,1,1\n", [], ["line 74", "soon"]),
        (CANDLES, [], ["--start", "2021-04-05", "2021-04-08"]),
        (CANDLES, ["--start", "2021-04-09"], ["--start", "2021-04-05", "2021-04-08"]),
        (CANDLES, ["--start", "2021-04-07", "--for", "60"], ["--for", "24 s after the start"]),
    ],
)
def test_a_replay_that_cannot_be_is_named(
    text: str,
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MTS_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "bitcoin_1h.csv.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(ConfigurationError) as caught:
        plan(["--demo", "--replay", str(tmp_path), "--port", str(free_port()), *arguments])
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_a_replay_without_a_known_instrument_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTS_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "no-such-coin_1h.csv").write_text(CANDLES)
    with pytest.raises(ConfigurationError, match="holds no coin that the exchanges list"):
        plan(["--demo", "--replay", str(tmp_path), "--start", "2021-04-06"])


@pytest.mark.parametrize("name", ["logs", "redis"])
def test_a_file_in_place_of_a_folder_is_named(name: str, sqlite_folder: Path) -> None:
    (sqlite_folder / name).write_text("mine")
    result = run_up("--port", str(free_port()), "--only", "web", data=sqlite_folder)
    assert_refused(result, f"{sqlite_folder / name} cannot be made")
    assert (sqlite_folder / name).read_text() == "mine"


def test_a_broken_replay_row_ends_the_start_before_any_process(tmp_path: Path) -> None:
    history = tmp_path / "history"
    history.mkdir()
    broken = CANDLES.replace("T01:00:00Z,100,101", "T01:00:00Z,100,nonsense")
    (history / "bitcoin_1h.csv").write_text(broken)
    result = run_up(
        *("--demo", "--replay", str(history), "--start", "2021-04-06"),
        *("--port", str(free_port())),
        data=tmp_path / "data",
    )
    assert_refused(result, "bitcoin_1h.csv, line 3", "'nonsense' is not a number")
    assert not (tmp_path / "data").exists()


def test_ctrl_c_ends_everything_quickly_and_quietly(sqlite_folder: Path) -> None:
    environ = {
        **os.environ,
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "MTS_DATA_DIR": str(sqlite_folder),
    }
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
        output, errors = program.communicate(timeout=60)
        assert time.monotonic() - began < 5.0
    finally:
        program.kill()
        program.wait()
    assert (program.returncode, errors) == (0, "")
    assert "Traceback" not in output
    assert len(pids) == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_an_unreachable_provider_is_named_and_the_rest_runs(sqlite_folder: Path) -> None:
    urls = {name: f"{url.split(':')[0]}://127.0.0.1:9/x" for name, url in PROVIDER_URLS.items()}
    environ = {
        **os.environ,
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "MTS_DATA_DIR": str(sqlite_folder),
    }
    program = subprocess.Popen(
        [sys.executable, "manage.py", "up", "--only", "worker:collect"],
        cwd=PROJECT,
        env=environ | urls,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    named: set[str] = set()
    try:
        assert program.stdout is not None
        for line in program.stdout:
            if " unreachable: " in line:
                assert "the rest runs" in line
                named.add(line.split(":")[0])
            if len(named) == 5:
                break
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=60)
    finally:
        program.kill()
        program.wait()
    assert named == {"coingecko", "binance", "binance stream", "bybit", "bybit stream"}
    assert (program.returncode, errors) == (0, "")


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
