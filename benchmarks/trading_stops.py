"""From the quote that touches a stop to its committed fill: the stream's watch and a worker."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal

from benchmarks.measures import Measure
from collectors import clock
from collectors.marketdata import Quote
from collectors.models import Instrument, Listing
from collectors.selectors import redis_client
from trading.models import Account, Fill, OrderKind, OrderLeg
from trading.services import create_account
from trading.services.accounts import locked_account
from trading.services.booking import Hit, book_fill, position_for
from trading.services.placing import Ticket, place_order
from trading.services.venues import Venue, venue_of
from trading.watching import watch_quotes

STOPS, STEPS = 40, 100
LONGEST_S = 20.0
MOST_P50_MS, MOST_P99_MS = 250.0, 1_000.0


def measure_stops() -> list[Measure]:
    """40 stops, one after the other, each set off by one quote that is gone with the next."""
    account = create_account(name="stops", initial_capital=Decimal(100_000))
    instrument = Instrument.objects.create(
        coin_id="bitcoin", symbol="BTC", name="bitcoin", sector="test"
    )
    Listing.objects.create(
        instrument=instrument, exchange="binance", symbol="BTCUSDT",
        tick_size="0.1", quantity_step="0.001",
    )  # fmt: skip
    venue = venue_of(instrument=instrument, exchange="binance", at=clock.now())
    if venue is None:
        raise RuntimeError("the instrument is listed nowhere")
    _hold(account, instrument, venue)
    with _worker(), watch_quotes() as watch:
        _fill_one(account, instrument, venue, watch)  # the worker's first work takes its imports
        took = sorted(_fill_one(account, instrument, venue, watch) * 1e3 for _ in range(STOPS))
    claim = "from the touching quote to the stop's fill"
    p99 = took[round(0.99 * (len(took) - 1))]
    told = f"{STOPS} stops, max {took[-1]:.0f} ms; PostgreSQL, one worker"
    return [
        Measure(f"{claim}, p50", statistics.median(took), MOST_P50_MS, "ms", 1.0, told),
        Measure(f"{claim}, p99", p99, MOST_P99_MS, "ms", 1.0),
    ]


@contextmanager
def _worker() -> Iterator[None]:
    command = (sys.executable, "-m", "celery", "-A", "mts_project", "worker")
    options = ("-Q", "trading", "--pool", "threads", "--concurrency", "4", "-l", "error")
    worker = subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 120
        while not list(redis_client().scan_iter("heartbeat:worker:*")):
            if time.monotonic() > until:
                raise RuntimeError("the worker did not come up")
            time.sleep(0.1)
        yield
    finally:
        worker.terminate()
        worker.wait()


def _hold(account: Account, instrument: Instrument, venue: Venue) -> None:
    """Something for the stops to sell."""
    now = clock.now()
    with locked_account(account.pk) as current:
        ticket = Ticket(leg=OrderLeg.OPEN, side=1, steps=STEPS * (STOPS + 1))
        order = place_order(
            account=current, instrument=instrument, venue=venue, ticket=ticket, at=now
        )
        hit = Hit(
            steps=STEPS * (STOPS + 1), ticks=1000, reference_ticks=1000, trigger="benchmark",
            at=now, bar=now, quote={}, slippage_bps=0.0,
        )  # fmt: skip
        position = position_for(account=current, instrument=instrument, venue=venue)
        book_fill(account=current, position=position, order=order, hit=hit)


def _fill_one(
    account: Account, instrument: Instrument, venue: Venue, watch: Callable[[Quote], None]
) -> float:
    """Seconds from the quote to the fill."""
    ticket = Ticket(
        leg=OrderLeg.CLOSE, side=-1, steps=STEPS, kind=OrderKind.STOP, trigger_ticks=990
    )
    with locked_account(account.pk) as current:
        order = place_order(
            account=current, instrument=instrument, venue=venue, ticket=ticket,
            at=clock.now() - timedelta(seconds=1),
        )  # fmt: skip
    time.sleep(0.2)  # the watch has read it
    fills = Fill.objects.filter(order=order)
    watch(_quote(100.0))
    began = time.perf_counter()
    watch(_quote(98.5))
    watch(_quote(100.0))
    while not fills.exists():
        if time.perf_counter() - began > LONGEST_S:
            raise RuntimeError("the stop was not filled")
        time.sleep(0.001)
    return time.perf_counter() - began


def _quote(bid: float) -> Quote:
    now = clock.now()
    return Quote(
        exchange="binance", symbol="BTCUSDT", best_bid=bid, bid_quantity=1.0, best_ask=bid + 0.1,
        ask_quantity=1.0, event_time=now, received_at=now, sequence=time.monotonic_ns(),
    )  # fmt: skip
