"""What `manage.py diagnose` finds, and that it leaves everything as it was."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from django.core.management import call_command

from mts_project.diagnosis import diagnose
from mts_project.processes import free_port
from tests.permissions import bound_by_permissions

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sandbox_urls() -> Iterator[dict[str, str]]:
    port = free_port()
    child = subprocess.Popen([sys.executable, "-m", "sandbox", "--port", f"{port}"], cwd=PROJECT)
    try:
        deadline = time.monotonic() + 90
        while not _answers(f"http://127.0.0.1:{port}/control/world"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield {
            "COINGECKO_BASE_URL": f"http://127.0.0.1:{port}/coingecko/api/v3",
            "FRED_BASE_URL": f"http://127.0.0.1:{port}/fred/fred",
            "BINANCE_REST_URL": f"http://127.0.0.1:{port}/binance",
            "BINANCE_WS_URL": f"ws://127.0.0.1:{port}/binance",
            "BYBIT_REST_URL": f"http://127.0.0.1:{port}/bybit",
            "BYBIT_WS_URL": f"ws://127.0.0.1:{port}/bybit/v5/public",
        }
    finally:
        child.terminate()
        child.wait(timeout=10)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2):
            return True
    except (URLError, OSError):
        return False


@pytest.mark.django_db
def test_providers_that_answer_are_ok(sandbox_urls: dict[str, str], settings) -> None:
    settings.PROVIDER_URLS = sandbox_urls
    states = {finding.name: finding.state for finding in diagnose()}
    assert states.pop("fred") == "warning"
    assert set(states.values()) == {"ok"}
    assert {"database", "redis", "binance stream", "bybit stream", "coingecko"} <= set(states)
    assert not [name for name in states if "_spot" in name]


@pytest.mark.django_db
def test_an_unreachable_provider_is_named_and_is_a_failure(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        call_command("diagnose", "--json")
    assert caught.value.code == 1
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["binance"]["state"] == "failed"
    assert "unreachable" in findings["bybit stream"]["detail"]
    assert findings["database"]["state"] == "ok"


@pytest.mark.django_db
def test_a_provider_that_is_no_candle_source_is_only_a_warning(settings) -> None:
    settings.CANDLE_SOURCES = ("binance",)
    states = {finding.name: finding.state for finding in diagnose()}
    assert (states["binance"], states["bybit"]) == ("failed", "warning")


@pytest.mark.django_db
def test_spot_markets_and_the_plan_are_named_where_they_are_set(
    sandbox_urls: dict[str, str], settings
) -> None:
    settings.PROVIDER_URLS = sandbox_urls | {
        "BINANCE_SPOT_REST_URL": sandbox_urls["BINANCE_REST_URL"],
        "BINANCE_SPOT_WS_URL": f"{sandbox_urls['BINANCE_WS_URL']}/spot",
    }
    settings.CANDLE_SOURCES = ("binance_spot", "bybit_spot", "coingecko")
    settings.ENV = dataclasses.replace(settings.ENV, coingecko_plan="demo")
    findings = {finding.name: finding for finding in diagnose()}
    assert findings["binance_spot"].state == findings["bybit_spot"].state == "ok"
    assert findings["binance_spot stream"].state == findings["bybit_spot stream"].state == "ok"
    assert findings["coingecko"].detail.endswith(", plan demo")
    key = findings["coingecko key"]
    assert (key.state, key.detail) == ("warning", "COINGECKO_API_KEY is not set for plan demo")


def run_check(*arguments: str, data: Path, **others: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "SECRET_KEY"}
    environ.update(DATABASE_URL="", REDIS_URL="", MTS_DATA_DIR=str(data), **others)
    return subprocess.run(
        [sys.executable, "manage.py", "diagnose", *arguments],
        cwd=PROJECT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        preexec_fn=bound_by_permissions,
    )


def test_it_changes_nothing_and_shows_no_key(tmp_path: Path) -> None:
    key = "0123456789abcdef0123456789abcdef"
    result = run_check(data=tmp_path / "data", FRED_API_KEY=key)
    assert result.returncode == 1, result.stderr
    assert "fred" in result.stdout
    assert key not in result.stdout + result.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "environ", "word"),
    [
        (["--everything"], {}, "--everything"),
        ([], {"MTS_CLOCK_SPEED": "abc"}, "MTS_CLOCK_SPEED"),
        ([], {"ENABLED_STRATEGIES": "astrology"}, "'astrology'"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    arguments: list[str], environ: dict[str, str], word: str, tmp_path: Path
) -> None:
    result = run_check(*arguments, data=tmp_path / "data", **environ)
    assert (result.returncode, result.stdout) == (2, "")
    assert word in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_a_data_folder_in_a_closed_folder_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    result = run_check("--json", data=tmp_path / "closed" / "data")
    assert result.returncode == 1, result.stderr
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert findings["data folder"]["state"] == "failed"
