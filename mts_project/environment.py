"""What the process environment and the `.env` file may say, checked once and typed.

`load_environment` is the only reader of the environment. Every wrong value raises
`ConfigurationError` whose text is one line that names the variable (or the line of `.env`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from dotenv.parser import parse_stream

PROVIDER_URLS = {
    "COINGECKO_BASE_URL": "https://api.coingecko.com/api/v3",
    "FRED_BASE_URL": "https://api.stlouisfed.org/fred",
    "BINANCE_REST_URL": "https://fapi.binance.com",
    "BINANCE_WS_URL": "wss://fstream.binance.com",
    "BINANCE_SPOT_REST_URL": "https://api.binance.com",
    "BINANCE_SPOT_WS_URL": "wss://stream.binance.com:9443",
    "BYBIT_REST_URL": "https://api.bybit.com",
    "BYBIT_WS_URL": "wss://stream.bybit.com/v5/public",
}
CANDLE_SOURCES = ("binance", "bybit", "coingecko")
ALLOWED_SOURCES = (*CANDLE_SOURCES, "binance_spot", "bybit_spot")
# By name, because their modules take long to import and this one is needed first of all.
OUR_STRATEGIES = (
    "mean_reversion",
    "momentum",
    "multi_bucket",
    "ripple",
    "ether",
    "vix_correlation",
    "volatility_breakout",
    "volume_spike",
)
STREAM_KINDS = ("book", "top", "candle", "mark", "ticker", "trade")
HTTP = ("https", "http")
WS = ("wss", "ws")
SOCKET_PATH_LIMIT = 107


class ConfigurationError(Exception):
    """A setting is wrong. The operator corrects the named variable; nothing was started."""


# Part of the outside already, without effect so far; whoever sets one is told at the start.
NOT_USED_YET = ("DISCORD_WEBHOOK_URL", "ALERT_WEBHOOK_URL", "ALERT_EMAIL_TO", "EMAIL_URL")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """All settings that come from outside, typed and checked."""

    data_dir: Path
    database_url: str
    redis_url: str
    bind: str
    secret_key: str
    allowed_hosts: tuple[str, ...]
    environment: str
    log_format: str
    log_level: str
    metrics_token: str
    provider_urls: Mapping[str, str]
    coingecko_api_key: str
    coingecko_plan: str
    fred_api_key: str
    request_timeout: float
    candle_sources: tuple[str, ...]
    stream_kinds: tuple[str, ...]
    stream_shards: int
    enable_signals: bool
    enable_alerts: bool
    enabled_strategies: tuple[str, ...]
    strategy_dir: Path | None
    watch_alerts_dir: Path | None
    ingest_max_age: float
    ingest_min_confidence: float
    clock_start: datetime | None
    clock_anchor: datetime | None
    clock_speed: float
    initial_capital: float
    max_position_size: float
    max_portfolio_risk: float
    risk_free_rate: float
    not_used_yet: tuple[str, ...]


def load_environment(*, base_dir: Path, environ: Mapping[str, str] | None = None) -> Environment:
    """Read `.env` under `base_dir` below the process environment (which wins).

    Raises ConfigurationError naming the first wrong variable or line.
    """
    process = dict(os.environ if environ is None else environ)
    values = {**read_dotenv(base_dir / ".env"), **process}
    reader = _Reader(values)
    urls = {
        # A WebSocket address keeps its kind, and an address for calls its own.
        name: reader.url(name, default, WS if default.startswith("wss") else HTTP)
        for name, default in PROVIDER_URLS.items()
    }
    # A stand-in for Binance stands in for all of it, unless told otherwise.
    if urls["BINANCE_REST_URL"] != PROVIDER_URLS["BINANCE_REST_URL"]:
        urls["BINANCE_SPOT_REST_URL"] = reader.url(
            "BINANCE_SPOT_REST_URL", urls["BINANCE_REST_URL"], HTTP
        )
    if urls["BINANCE_WS_URL"] != PROVIDER_URLS["BINANCE_WS_URL"]:
        urls["BINANCE_SPOT_WS_URL"] = reader.url(
            "BINANCE_SPOT_WS_URL", f"{urls['BINANCE_WS_URL']}/spot", WS
        )
    environment = Environment(
        data_dir=reader.folder("MTS_DATA_DIR", base_dir / "data"),
        database_url=reader.text("DATABASE_URL"),
        redis_url=reader.url("REDIS_URL", "", ("redis", "rediss", "unix")),
        bind=reader.address("MTS_BIND", "127.0.0.1"),
        secret_key=reader.text("SECRET_KEY"),
        allowed_hosts=reader.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]"),
        environment=reader.choice("ENVIRONMENT", "development", ("development", "production")),
        log_format=reader.choice("LOG_FORMAT", "console", ("console", "json")),
        log_level=reader.choice(
            "LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
        ),
        metrics_token=reader.text("METRICS_TOKEN"),
        provider_urls=urls,
        coingecko_api_key=reader.text("COINGECKO_API_KEY"),
        coingecko_plan=reader.choice("COINGECKO_PLAN", "none", ("none", "demo", "pro")),
        fred_api_key=reader.text("FRED_API_KEY"),
        request_timeout=reader.number("REQUEST_TIMEOUT", 30.0, 0.1, 600.0),
        candle_sources=reader.words("CANDLE_SOURCES", ",".join(CANDLE_SOURCES), ALLOWED_SOURCES),
        stream_kinds=reader.words("STREAM_KINDS", ",".join(STREAM_KINDS), STREAM_KINDS)
        or STREAM_KINDS,
        stream_shards=reader.count("STREAM_SHARDS", 8, 1, 1024),
        enable_signals=reader.flag("ENABLE_SIGNALS"),
        enable_alerts=reader.flag("ENABLE_ALERTS"),
        enabled_strategies=reader.words("ENABLED_STRATEGIES", ",".join(OUR_STRATEGIES)),
        strategy_dir=(
            reader.folder("MTS_STRATEGY_DIR", base_dir) if reader.text("MTS_STRATEGY_DIR") else None
        ),
        watch_alerts_dir=(
            reader.folder("WATCH_ALERTS_DIR", base_dir) if reader.text("WATCH_ALERTS_DIR") else None
        ),
        ingest_max_age=reader.number("INGEST_MAX_AGE", 86_400.0, 0.0, 31_536_000.0),
        ingest_min_confidence=reader.number("INGEST_MIN_CONFIDENCE", 0.5, 0.0, 1.0),
        clock_start=reader.moment("MTS_CLOCK_START"),
        clock_anchor=reader.moment("MTS_CLOCK_ANCHOR"),
        clock_speed=reader.number("MTS_CLOCK_SPEED", 1.0, 0.001, 100_000.0),
        initial_capital=reader.number("INITIAL_CAPITAL", 10_000.0, 1.0, 1e9),
        max_position_size=reader.number("MAX_POSITION_SIZE", 0.10, 0.0001, 1.0),
        max_portfolio_risk=reader.number("MAX_PORTFOLIO_RISK", 0.25, 0.0001, 1.0),
        risk_free_rate=reader.number("RISK_FREE_RATE", 0.02, -0.5, 1.0),
        not_used_yet=tuple(name for name in NOT_USED_YET if values.get(name)),
    )
    if environment.database_url:
        parse_database_url(environment.database_url)
    _check_clock(environment)
    return environment


def read_dotenv(path: Path) -> dict[str, str]:
    """Parse a `.env` file; a missing file is empty, a malformed line raises with its number."""
    if not path.exists():
        return {}
    values: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8") as stream:
            for binding in parse_stream(stream):
                if binding.error or (binding.key is not None and binding.value is None):
                    line = binding.original.string.strip()
                    name = line.split("=", 1)[0][:40]
                    raise ConfigurationError(
                        f"{path}, line {binding.original.line}: not NAME=value (near {name!r})"
                    )
                if binding.key is not None and binding.value is not None:
                    values[binding.key] = binding.value
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    return values


def parse_database_url(url: str) -> dict[str, Any]:
    """Django's database settings for a DATABASE_URL. Raises ConfigurationError."""
    wanted = "postgresql://USER:PASSWORD@HOST:PORT/NAME or sqlite:///PATH"
    try:
        config = dj_database_url.parse(url, conn_max_age=60, conn_health_checks=True)
    except (ValueError, KeyError):
        # The reason given quotes the URL, and with it the password.
        raise ConfigurationError(f"DATABASE_URL is not {wanted}") from None
    if not config.get("ENGINE", "").endswith(("postgresql", "sqlite3")):
        raise ConfigurationError(f"DATABASE_URL: only {wanted} is supported")
    return dict(config)


def is_loopback(url: str) -> bool:
    """True when a URL's host is this machine (loopback address or `localhost`)."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, which may have to be made itself."""
    # Not Path.exists, which raises where a folder above may not be looked into.
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder below the data folder unless it is there. Raises ConfigurationError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be made: {error.strerror}") from None


def secret_key_at(path: Path) -> str:
    """The secret key stored at `path` (mode 0600), made there on first use.

    Several processes may start at once: the first to create the file wins, the others read it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(50))
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"MTS_DATA_DIR {path.parent} cannot be written: {error}") from None


def private_socket(data_dir: Path) -> Path:
    """The unix socket of the private Redis-protocol server that belongs to a data folder.

    A socket's path has at most 107 bytes; below a deep data folder it moves to the system's
    temporary folder, under a name that every process of the same user computes alike.
    """
    path = data_dir / "redis" / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"mts-{os.getuid()}-{digest}" / "redis.sock"


def _check_clock(environment: Environment) -> None:
    if environment.clock_speed > 1:
        for name, url in environment.provider_urls.items():
            if not is_loopback(url):
                raise ConfigurationError(
                    f"MTS_CLOCK_SPEED above 1 needs a sandbox: {name} points to a real provider"
                )
    if environment.clock_start is not None and environment.clock_anchor is None:
        raise ConfigurationError("MTS_CLOCK_ANCHOR is missing though MTS_CLOCK_START is set")


class _Reader:
    """Typed access to a mapping of strings; each method raises naming its variable."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name, default).strip()

    def words(
        self, name: str, default: str, allowed: tuple[str, ...] | None = None
    ) -> tuple[str, ...]:
        raw = self._values.get(name)
        text = default if raw is None else raw
        words = tuple(word.strip() for word in text.split(",") if word.strip())
        for word in words:
            if allowed is not None and word not in allowed:
                raise ConfigurationError(f"{name}: {word!r} is not one of {', '.join(allowed)}")
        return words

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name) or default
        if value not in allowed:
            raise ConfigurationError(f"{name}: {value!r} is not one of {', '.join(allowed)}")
        return value

    def flag(self, name: str) -> bool:
        value = (self.text(name) or "true").lower()
        if value not in {"true", "false", "1", "0", "yes", "no"}:
            raise ConfigurationError(f"{name}: {value!r} is not true or false")
        return value in {"true", "1", "yes"}

    def number(self, name: str, default: float, low: float, high: float) -> float:
        raw = self.text(name)
        if not raw:
            return default
        try:
            value = float(raw)
        except ValueError:
            raise ConfigurationError(f"{name}: {raw!r} is not a number") from None
        if not low <= value <= high:
            raise ConfigurationError(f"{name}: {raw} is outside {low:g} to {high:g}")
        return value

    def count(self, name: str, default: int, low: int, high: int) -> int:
        value = self.number(name, default, low, high)
        if value != int(value):
            raise ConfigurationError(f"{name}: {value:g} is not a whole number")
        return int(value)

    def moment(self, name: str) -> datetime | None:
        raw = self.text(name)
        if not raw:
            return None
        try:
            value = datetime.fromisoformat(raw)
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except (ValueError, OverflowError):
            raise ConfigurationError(f"{name}: {raw!r} is not an ISO 8601 time") from None

    def url(self, name: str, default: str, schemes: tuple[str, ...]) -> str:
        value = (self.text(name) or default).rstrip("/")
        if not value:
            return ""
        try:
            parts = urlsplit(value)
            is_usable = parts.scheme in schemes and parts.port != 0
        except ValueError:  # a port that is no number, brackets that do not close
            is_usable = False
        if not is_usable or not (parts.hostname or parts.scheme == "unix"):
            # A wrong value is not shown: it may hold a password or a token.
            raise ConfigurationError(f"{name} is not a URL such as {schemes[0]}://HOST:PORT")
        return value

    def folder(self, name: str, default: Path) -> Path:
        value = self.text(name)
        try:
            return (Path(value) if value else default).expanduser().resolve()
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigurationError(f"{name}: {value!r} is not a folder: {error}") from None

    def address(self, name: str, default: str) -> str:
        value = self.text(name) or default
        try:
            ip_address(value)
        except ValueError:
            raise ConfigurationError(f"{name}: {value!r} is not an IP address") from None
        return value
