"""Whether this installation could run: configuration, stores, keys, providers. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import requests
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from collectors.coingecko import plan_url
from mts_project.environment import ConfigurationError, is_writable
from mts_project.launch import check_strategies
from mts_project.processes import redis_answers, redis_binary

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 10.0
MACRO_SERIES = "VIXCLS"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check. `failed` is something needed; `warning` is named, and the rest runs."""

    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str


def diagnose() -> list[Finding]:
    """Run all checks, those over the network in parallel; at most about ten seconds."""
    local = [_configuration(), _data_folder(), _database(), _redis()]
    local += _missing_keys()
    checks = provider_checks()
    with ThreadPoolExecutor(max_workers=len(checks)) as pool:
        remote = list(pool.map(lambda check: check(), checks))
    return [*local, *remote]


def provider_checks() -> list[Callable[[], Finding]]:
    """One check per provider address that can be asked; each takes at most about ten seconds.

    An exchange that is no candle source is not needed, and only a warning; a spot market is asked
    only where it is one.
    """
    urls, env = settings.PROVIDER_URLS, settings.ENV
    header = {"pro": "x-cg-pro-api-key", "demo": "x-cg-demo-api-key"}.get(env.coingecko_plan)
    headers = {header: env.coingecko_api_key} if header else {}
    coingecko = plan_url(urls["COINGECKO_BASE_URL"], env.coingecko_plan)
    checks: list[Callable[[], Finding]] = [
        partial(
            _http,
            "coingecko",
            f"{coingecko}/ping",
            headers=headers,
            note=f", plan {env.coingecko_plan}",
        ),
        partial(_http, "binance", f"{urls['BINANCE_REST_URL']}/fapi/v1/ping"),
        partial(_websocket, "binance", f"{urls['BINANCE_WS_URL']}/ws"),
        partial(_http, "bybit", f"{urls['BYBIT_REST_URL']}/v5/market/time"),
        partial(_websocket, "bybit", f"{urls['BYBIT_WS_URL']}/linear"),
    ]
    spot = {
        "binance_spot": (
            ("BINANCE_SPOT_REST_URL", "/api/v3/ping"),
            ("BINANCE_SPOT_WS_URL", "/stream"),
        ),
        "bybit_spot": (("BYBIT_REST_URL", "/v5/market/time"), ("BYBIT_WS_URL", "/spot")),
    }
    for name, ((rest, path), (socket, socket_path)) in spot.items():
        if name in settings.CANDLE_SOURCES:
            checks += [
                partial(_http, name, f"{urls[rest]}{path}"),
                partial(_websocket, name, f"{urls[socket]}{socket_path}"),
            ]
    if not env.fred_api_key:
        return checks
    query = {"series_id": MACRO_SERIES, "api_key": env.fred_api_key, "file_type": "json"}
    return [*checks, partial(_http, "fred", f"{urls['FRED_BASE_URL']}/series", query=query)]


def missing_keys() -> list[str]:
    """What does not happen for want of a key, or for want of code, one line each."""
    env = settings.ENV
    lines = [
        f"{name} is set, but this version does nothing with it yet" for name in env.not_used_yet
    ]
    return lines + [finding.detail for finding in _missing_keys()]


def _configuration() -> Finding:
    # Any other wrong value would have ended the process before this line.
    check_strategies(settings.ENV)
    where = settings.BASE_DIR / ".env"
    source = f"{where} and the environment" if where.exists() else "the environment (no .env)"
    return Finding(name="configuration", state="ok", detail=f"from {source}")


def _data_folder() -> Finding:
    folder: Path = settings.DATA_DIR
    if is_writable(folder):
        note = "" if folder.exists() else " (made at the first start)"
        return Finding(name="data folder", state="ok", detail=f"{folder}{note}")
    return Finding(name="data folder", state="failed", detail=f"{folder} cannot be written")


def _database() -> Finding:
    name = "database"
    if connection.vendor == "sqlite" and not os.path.exists(connection.settings_dict["NAME"]):
        return Finding(name=name, state="ok", detail="SQLite, made at the first start")
    try:
        executor = MigrationExecutor(connection)
        missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except DatabaseError as error:
        return Finding(name=name, state="failed", detail=_one_line(error))
    finally:
        connection.close()
    note = f"{missing} migrations not applied yet" if missing else "migrated"
    return Finding(name=name, state="ok", detail=f"{connection.vendor}, {note}")


def _redis() -> Finding:
    if redis_answers(settings.REDIS_URL):
        return Finding(name="redis", state="ok", detail="answers")
    if settings.ENV.redis_url:
        return Finding(name="redis", state="failed", detail="no answer at REDIS_URL")
    try:
        binary = redis_binary()
    except ConfigurationError as error:
        return Finding(name="redis", state="failed", detail=str(error))
    return Finding(name="redis", state="ok", detail=f"private, started from {binary.name}")


def _missing_keys() -> list[Finding]:
    keys = {"fred": _missing_fred_key(), "coingecko key": _missing_coingecko_key()}
    return [Finding(name=name, state="warning", detail=text) for name, text in keys.items() if text]


def _missing_fred_key() -> str:
    is_missing = not settings.ENV.fred_api_key
    return "FRED_API_KEY is not set: no macro series is collected" if is_missing else ""


def _missing_coingecko_key() -> str:
    plan = settings.ENV.coingecko_plan
    is_missing = plan != "none" and not settings.ENV.coingecko_api_key
    return f"COINGECKO_API_KEY is not set for plan {plan}" if is_missing else ""


def _http(
    name: str,
    url: str,
    *,
    headers: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
    note: str = "",
) -> Finding:
    try:
        answer = requests.get(
            url,
            headers=headers,
            params=query,
            timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            allow_redirects=False,
            stream=True,
        )
        answer.close()
    except requests.RequestException as error:
        # The text of the error may hold the query, and with it the key.
        return _unusable(name, f"{url} unreachable: {type(error).__name__}")
    if answer.status_code != requests.codes.ok:
        return _unusable(name, f"{url} answers HTTP {answer.status_code}{note}")
    milliseconds = answer.elapsed.total_seconds() * 1000
    return Finding(name=name, state="ok", detail=f"{url} in {milliseconds:.0f} ms{note}")


def _websocket(name: str, url: str) -> Finding:
    label = f"{name} stream"
    try:
        with connect(url, open_timeout=CONNECT_TIMEOUT_S, close_timeout=1):
            return Finding(name=label, state="ok", detail=url)
    except (OSError, WebSocketException) as error:
        return _unusable(label, f"{url} unreachable: {type(error).__name__}", source=name)


def _unusable(name: str, detail: str, *, source: str = "") -> Finding:
    is_needed = (source or name) in settings.CANDLE_SOURCES or name == "fred"
    return Finding(name=name, state="failed" if is_needed else "warning", detail=detail)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
