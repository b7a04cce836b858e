"""What `manage.py diagnose` finds, and that it leaves everything as it was."""

from __future__ import annotations

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

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sandbox_urls() -> Iterator[dict[str, str]]:
    port = free_port()
    child = subprocess.Popen([sys.executable, "-m", "sandbox", "--port", f"{port}"], cwd=PROJECT)
    try:
        deadline = time.monotonic() + 30
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


def test_it_changes_nothing_and_shows_no_key(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "SECRET_KEY"}
    environ.update(DATABASE_URL="", REDIS_URL="", MTS_DATA_DIR=str(tmp_path / "data"))
    environ["FRED_API_KEY"] = "0123456789abcdef0123456789abcdef"
    result = subprocess.run(
        [sys.executable, "manage.py", "diagnose"],
        cwd=PROJECT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert "fred" in result.stdout
    assert environ["FRED_API_KEY"] not in result.stdout + result.stderr
    assert not (tmp_path / "data").exists()
