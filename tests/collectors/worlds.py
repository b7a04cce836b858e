"""A sandbox of its own process, and the settings and the clock of its world."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collectors import clock

PROJECT = Path(__file__).resolve().parents[2]
# In the middle of a bar: none closes while a test at the speed of the wall clock runs.
START = datetime(2025, 3, 3, 10, 37, tzinfo=UTC)


@dataclass
class SandboxWorld:
    """A running world: its address and the wall time at which it is START."""

    url: str
    anchor: datetime
    speed: float

    @property
    def ws_url(self) -> str:
        """The address of its streams."""
        return self.url.replace("http://", "ws://")

    def book(self, exchange: str, symbol: str) -> dict[str, Any]:
        """The true book: `update_id`, `topics` (the last id sent by topic), `bids`, `asks`."""
        address = f"{self.url}/control/book?exchange={exchange}&symbol={symbol}"
        with urllib.request.urlopen(address) as answer:
            return json.load(answer)  # type: ignore[no-any-return]

    def calls(self) -> dict[str, int]:
        """How often each provider was asked, as the world counted."""
        with urllib.request.urlopen(f"{self.url}/control/requests") as answer:
            return {name: row["total"] for name, row in json.load(answer).items()}

    def change_faults(self, wanted: object) -> None:
        """Switch faults on or off."""
        body = json.dumps(wanted).encode()
        with urllib.request.urlopen(f"{self.url}/control/faults", body) as answer:
            assert answer.status == 200

    @contextlib.contextmanager
    def entered(self, settings: Any) -> Iterator[None]:
        """Settings and clock of the world while the block runs."""
        settings.PROVIDER_URLS = {
            "COINGECKO_BASE_URL": f"{self.url}/coingecko/api/v3",
            "FRED_BASE_URL": f"{self.url}/fred/fred",
            "BINANCE_REST_URL": f"{self.url}/binance",
            "BINANCE_WS_URL": f"{self.ws_url}/binance",
            "BINANCE_SPOT_REST_URL": f"{self.url}/binance",
            "BINANCE_SPOT_WS_URL": f"{self.ws_url}/binance/spot",
            "BYBIT_REST_URL": f"{self.url}/bybit",
            "BYBIT_WS_URL": f"{self.ws_url}/bybit/v5/public",
        }
        settings.ENV = dataclasses.replace(settings.ENV, clock_start=START, fred_api_key="a" * 32)
        before = clock.current()
        clock.configure(clock.MarketClock(start=START, anchor=self.anchor, speed=self.speed))
        try:
            yield
        finally:
            clock.configure(before)


@contextlib.contextmanager
def running_world(*, speed: float, seed: int = 7) -> Iterator[SandboxWorld]:
    """Run a seeded world at that speed."""
    anchor = datetime.now(UTC)
    command = [sys.executable, "-m", "sandbox", "--port", "0", "--seed", str(seed)]
    command += ["--start", START.isoformat(), "--speed", str(speed)]
    command += ["--anchor", anchor.isoformat()]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        assert line.startswith("sandbox ready on http://127.0.0.1:"), line
        yield SandboxWorld(line.split()[3], anchor, speed)
    finally:
        child.terminate()
        child.wait(timeout=30)
        child.stdout.close()
