"""Fixtures of the collectors' tests: loopback providers, a market clock at a known time."""

import contextlib
import dataclasses
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from collectors import clock
from collectors.models import Instrument
from collectors.services import coverage, seed_instruments, seed_macro_series
from tests.collectors.providers import NOW, Provider, Venues, json_answer
from tests.collectors.redis_server import RestartableRedis
from tests.collectors.settling import Settling


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of its own for the test; an unknown path is a 404 with an empty object."""
    served: Provider

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            params = dict(parse_qsl(parts.query))
            served.requests.append((parts.path, params))
            served.headers.append(dict(self.headers))
            route = served.routes.get(parts.path, lambda _: json_answer({}, 404))
            status, headers, body = route(params)
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):  # the client may have given up
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test reads `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Provider(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def own_redis() -> Iterator[RestartableRedis]:
    """A running Redis-protocol server of the test's own, with an append-only file."""
    # A socket's path must be short, which a test's own folder is not.
    with tempfile.TemporaryDirectory(prefix="mts-redis-") as folder:
        server = RestartableRedis(Path(folder))
        server.start()
        yield server
        server.client.close()
        server.kill()


@pytest.fixture
def market_now() -> Iterator[datetime]:
    """Market time begins at NOW and runs as fast as wall time."""
    before = clock.current()
    clock.configure(clock.MarketClock(start=NOW, anchor=clock.wall_now(), speed=1.0))
    yield NOW
    clock.configure(before)


@pytest.fixture
def venues(provider: Provider, settings: Any, market_now: datetime) -> Venues:
    """The three candle sources, reached through the settings; nothing older than a few days is
    asked for, because the clock's start is the settings' too."""
    settings.PROVIDER_URLS = {
        "BINANCE_REST_URL": f"{provider.url}/binance",
        "BINANCE_SPOT_REST_URL": f"{provider.url}/binance",
        "BYBIT_REST_URL": f"{provider.url}/bybit",
        "COINGECKO_BASE_URL": f"{provider.url}/coingecko",
        "FRED_BASE_URL": f"{provider.url}/fred",
    }
    settings.ENV = dataclasses.replace(settings.ENV, clock_start=NOW, fred_api_key="a" * 32)
    served = Venues(provider)
    provider.routes["/binance/fapi/v1/klines"] = served.binance
    provider.routes["/bybit/v5/market/kline"] = served.bybit
    provider.routes["/coingecko/coins/tether/market_chart/range"] = served.coingecko
    return served


@pytest.fixture
def bitcoin(db: None) -> Instrument:
    """The seeded instrument bitcoin, among all others."""
    seed_instruments()
    seed_macro_series()
    return Instrument.objects.get(coin_id="bitcoin")


@pytest.fixture
def history_start() -> datetime:
    """Where the default history of a clock that starts at NOW begins."""
    return datetime(2025, 3, 3, tzinfo=UTC) - timedelta(days=75)


@pytest.fixture
def settling(
    bitcoin: Instrument, venues: Venues, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Settling:
    """Binance alone, two instruments, ten days of history."""
    settings.CANDLE_SOURCES = ("binance",)
    monkeypatch.setattr(coverage, "HISTORY_DEPTH", timedelta(days=10))
    Instrument.objects.exclude(coin_id__in=["bitcoin", "solana"]).update(is_enabled=False)
    return Settling(venues)


@pytest.fixture
def at() -> Iterator[Any]:
    """Sets the market clock."""
    before = clock.current()

    def move(moment: datetime) -> None:
        clock.configure(clock.MarketClock(start=moment, anchor=clock.wall_now(), speed=1.0))

    yield move
    clock.configure(before)
