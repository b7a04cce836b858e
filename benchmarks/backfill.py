"""How much memory a backfill takes: a process of its own, and a loopback source.

As a program: `python -m benchmarks.backfill CANDLES` backfills so many minutes from the venue that
the environment names, and prints the process' peak memory in MiB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from benchmarks.measures import Measure

MINUTE_MS = 60_000
FEW, MANY = 100_000, 1_000_000


def measure_memory() -> Measure:
    """The peak memory of a backfill of a million candles, beside that of a tenth."""
    with _venue() as url:
        few, many = (_peak(count, url) for count in (FEW, MANY))
    return Measure("backfill of 1,000,000 candles beside 100,000", many, few, "MiB", 1.5)


def _peak(count: int, url: str) -> float:
    environment = {**os.environ, "BINANCE_REST_URL": url, "LOG_LEVEL": "ERROR"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.backfill", str(count)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)


@contextmanager
def _venue() -> Iterator[str]:
    """A venue with a candle for every minute, in Binance's form."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = dict(parse_qsl(urlsplit(self.path).query))
            first = -(-int(query["startTime"]) // MINUTE_MS) * MINUTE_MS
            last = min(int(query["endTime"]), first + (int(query["limit"]) - 1) * MINUTE_MS)
            rows = [
                [at, "2.0", "3.0", "1.0", "2.5", "7.0", at + MINUTE_MS - 1, "0", 1, "0", "0", "0"]
                for at in range(first, last + 1, MINUTE_MS)
            ]
            body = json.dumps(rows).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def main(count: int) -> None:
    """Backfill `count` minutes and print the peak memory."""
    import django

    django.setup()
    from collectors import clock
    from collectors.marketdata import floor_time
    from collectors.models import Instrument, Listing
    from collectors.services import ensure_coverage

    # The budget's minute is one of market time: a fast clock does not wait for it.
    now = clock.wall_now()
    clock.configure(clock.MarketClock(start=now, anchor=now, speed=3600.0))
    coin_id = f"backfill-{count}"
    instrument = Instrument.objects.create(coin_id=coin_id, symbol="B", source_chain=["binance"])
    Listing.objects.create(
        instrument=instrument, exchange="binance", symbol="BUSDT", tick_size="1", quantity_step="1"
    )
    until = floor_time(now, "1d")
    start = until - timedelta(minutes=count)
    done = ensure_coverage(instrument=instrument, timeframe="1m", until=until, start=start)
    if done.stored != count:
        raise SystemExit(f"{done.stored} of {count} candles are stored: {done.errors[:3]}")
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1024)


if __name__ == "__main__":
    main(int(sys.argv[1]))
