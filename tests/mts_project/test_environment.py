"""The environment is checked once, and every wrong value is named in one line."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mts_project.environment import (
    ConfigurationError,
    is_loopback,
    load_environment,
    secret_key_at,
)
from signals.registry import STRATEGIES

SANDBOX_URLS = {
    "COINGECKO_BASE_URL": "http://127.0.0.1:1/coingecko/api/v3",
    "FRED_BASE_URL": "http://127.0.0.1:1/fred/fred",
    "BINANCE_REST_URL": "http://127.0.0.1:1/binance",
    "BINANCE_WS_URL": "ws://127.0.0.1:1/binance",
    "BYBIT_REST_URL": "http://127.0.0.1:1/bybit",
    "BYBIT_WS_URL": "ws://127.0.0.1:1/bybit/v5/public",
}


def test_defaults_need_no_environment(tmp_path: Path) -> None:
    environment = load_environment(base_dir=tmp_path, environ={})
    assert environment.data_dir == tmp_path / "data"
    assert environment.clock_speed == 1.0
    assert environment.candle_sources == ("binance", "bybit", "coingecko")
    assert environment.stream_kinds == ("book", "top", "candle", "mark", "ticker", "trade")
    assert environment.bind == "127.0.0.1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REQUEST_TIMEOUT", "soon"),
        ("REQUEST_TIMEOUT", "0"),
        ("MAX_POSITION_SIZE", "2"),
        ("MAX_PORTFOLIO_RISK", "nan"),
        ("INITIAL_CAPITAL", "inf"),
        ("RISK_FREE_RATE", "2"),
        ("CANDLE_SOURCES", "binance,kraken"),
        ("STREAM_KINDS", "book,depth"),
        ("STREAM_KINDS", "Book"),
        ("BINANCE_SPOT_WS_URL", "https://api.example.org"),
        ("ENVIRONMENT", "staging"),
        ("LOG_FORMAT", "xml"),
        ("MTS_BIND", "everywhere"),
        ("MTS_CLOCK_START", "yesterday"),
        ("MTS_CLOCK_SPEED", "-1"),
        ("ENABLE_SIGNALS", "maybe"),
        ("MTS_CLOCK_START", "0001-01-01T00:00+10:00"),
        ("MTS_DATA_DIR", "~nobody-of-that-name/data"),
        ("BYBIT_REST_URL", "not a url"),
        ("BYBIT_REST_URL", "wss://stream.example.org"),
        ("BYBIT_REST_URL", "http://[open"),
        ("BYBIT_WS_URL", "https://api.example.org"),
        ("REDIS_URL", "localhost"),
        ("REDIS_URL", "redis://localhost:door"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "mysql://localhost/mts"),
        ("DATABASE_URL", "postgresql://localhost:door/mts"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_environment(base_dir=tmp_path, environ={name: value})
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "FRED_BASE_URL"])
def test_a_wrong_address_is_not_shown_with_its_password(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_environment(base_dir=tmp_path, environ={name: "smb://user:hunter2@host:door/"})
    assert name in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_speed_above_one_is_refused_against_a_real_provider(tmp_path: Path) -> None:
    fast = {**SANDBOX_URLS, "MTS_CLOCK_SPEED": "60"}
    assert load_environment(base_dir=tmp_path, environ=fast).clock_speed == 60
    del fast["FRED_BASE_URL"]
    with pytest.raises(ConfigurationError, match="FRED_BASE_URL points to a real provider"):
        load_environment(base_dir=tmp_path, environ=fast)


def test_a_stand_in_for_binance_stands_in_for_its_spot_market_too(tmp_path: Path) -> None:
    real = load_environment(base_dir=tmp_path, environ={}).provider_urls
    assert real["BINANCE_SPOT_WS_URL"] == "wss://stream.binance.com:9443"
    urls = load_environment(base_dir=tmp_path, environ=SANDBOX_URLS).provider_urls
    assert urls["BINANCE_SPOT_REST_URL"] == SANDBOX_URLS["BINANCE_REST_URL"]
    assert urls["BINANCE_SPOT_WS_URL"] == f"{SANDBOX_URLS['BINANCE_WS_URL']}/spot"
    said = SANDBOX_URLS | {"BINANCE_SPOT_WS_URL": "ws://127.0.0.1:2/x"}
    urls = load_environment(base_dir=tmp_path, environ=said).provider_urls
    assert urls["BINANCE_SPOT_WS_URL"] == "ws://127.0.0.1:2/x"


def test_streamed_kinds_can_be_chosen(tmp_path: Path) -> None:
    def kinds(text: str) -> tuple[str, ...]:
        return load_environment(base_dir=tmp_path, environ={"STREAM_KINDS": text}).stream_kinds

    assert kinds("candle, top") == ("candle", "top")
    assert len(kinds("")) == 6


def test_dotenv_is_below_the_process_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=DEBUG\nREQUEST_TIMEOUT=7\n# note\n")
    environment = load_environment(base_dir=tmp_path, environ={"LOG_LEVEL": "ERROR"})
    assert environment.log_level == "ERROR"
    assert environment.request_timeout == 7


@pytest.mark.parametrize("text", ["LOG_LEVEL=INFO\nthis is no setting\n", "A='open\n", "\xff"])
def test_a_malformed_dotenv_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / ".env").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError) as caught:
        load_environment(base_dir=tmp_path, environ={})
    assert str(tmp_path / ".env") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_times_without_a_zone_are_utc(tmp_path: Path) -> None:
    environment = load_environment(
        base_dir=tmp_path,
        environ={
            "MTS_CLOCK_START": "2021-05-13",
            "MTS_CLOCK_ANCHOR": "2021-05-13T02:00:00+02:00",
        },
    )
    assert environment.clock_start == datetime(2021, 5, 13, tzinfo=UTC)
    assert environment.clock_anchor == datetime(2021, 5, 13, tzinfo=UTC)


def test_the_secret_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret_key"
    key = secret_key_at(path)
    assert len(key) > 40
    assert secret_key_at(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["secret_key"]


def test_an_unwritable_data_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(ConfigurationError, match="MTS_DATA_DIR"):
        secret_key_at(tmp_path / "data" / "secret_key")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9/x", True),
        ("ws://[::1]:9", True),
        ("http://localhost", True),
        ("https://api.example.org", False),
        ("http://127.0.0.1.example.org", False),
    ],
)
def test_loopback_is_decided_by_address(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_a_stand_in_for_binance_stands_in_for_spot_too(tmp_path: Path) -> None:
    def spot(**given: str) -> str:
        environment = load_environment(base_dir=tmp_path, environ=given)
        return environment.provider_urls["BINANCE_SPOT_REST_URL"]

    assert spot() == "https://api.binance.com"
    stand_in = "http://127.0.0.1:1/binance"
    assert spot(BINANCE_REST_URL=stand_in) == stand_in
    own = "http://127.0.0.1:2/spot"
    assert spot(BINANCE_REST_URL=stand_in, BINANCE_SPOT_REST_URL=own) == own


def test_all_of_our_strategies_are_wanted_unless_said_otherwise(tmp_path: Path) -> None:
    environment = load_environment(base_dir=tmp_path, environ={})
    assert environment.enabled_strategies == tuple(STRATEGIES)
