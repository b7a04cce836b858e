"""Executing signals: how many a second, and that nobody does it twice, whoever else does it too.

A thousand signals, each turning a position around, so that each closes and opens: one decision, two
fills, and all that is booked for them. The floor writes the same rows of one account with prepared
SQL, one transaction for each signal, and computes nothing. Workers are processes of their own that
begin at the same moment, as workers on several machines would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from benchmarks.measures import Measure

PROJECT = Path(__file__).resolve().parent.parent
NOW = datetime(2025, 3, 3, 12, 10, tzinfo=UTC)
COINS = 10
BARS = 100
WORKERS = 16
ACCOUNTS = 8
HOUR = timedelta(hours=1)
EXCHANGE = "binance"
# One account works its signals off one after the other; the bound is against plain SQL.
MOST_OF_FLOOR = 12.0

WORK = """
import json, sys, time
import django; django.setup()
from benchmarks.trading_storm import stand_still
from trading.services import advance_account
stand_still()
accounts = json.loads(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
began = time.perf_counter()
for account in accounts:
    advance_account(account_id=account)
print(json.dumps(time.perf_counter() - began), flush=True)
"""


def measure_storm() -> list[Measure]:
    """One account alone, 16 workers on the same account, 16 on eight accounts, and the switch."""
    stand_still()
    make_market()
    first = make_account("alone")
    began = time.perf_counter()
    work_alone(first)
    alone = time.perf_counter() - began
    check_account(first)
    floor = write_floor()
    signals = COINS * BARS
    shared = make_account("shared")
    together = run_workers([[shared]] * WORKERS)
    check_account(shared)
    several = [make_account(f"one of {number}") for number in range(ACCOUNTS)]
    # Every account by two workers.
    spread = run_workers([[several[number % ACCOUNTS]] for number in range(WORKERS)])
    for account in several:
        check_account(account)
    answered, orders_after = throw_switch()
    told = f"{signals / alone:.0f} signals/s"
    return [
        Measure("1,000 signals on one account, one worker", alone, floor, "s", MOST_OF_FLOOR, told),
        Measure(
            f"the same signals by {WORKERS} workers, each filled once",
            together,
            alone,
            "s",
            None,
            f"{signals / together:.0f} signals/s",
        ),
        Measure(
            f"8 accounts by {WORKERS} workers, each signal filled once in each",
            spread,
            ACCOUNTS * alone,
            "s",
            None,
            f"{ACCOUNTS * signals / spread:.0f} executions/s",
        ),
        Measure(
            f"the desk's switch under {WORKERS} workers, to its answer",
            answered,
            1.0,
            "s",
            1.0,
            f"{orders_after} openings after it",
        ),
    ]


def stand_still() -> None:
    """Let market time all but stand still."""
    from collectors import clock

    clock.configure(clock.MarketClock(start=NOW, anchor=clock.wall_now(), speed=0.001))


def make_market() -> None:
    """Coins with a calm history and a quote, and a hundred finished bars that turn all of them."""
    import msgspec

    from collectors.marketdata import Quote, candle_key
    from collectors.models import Instrument, Listing, Ohlcv, Series
    from collectors.selectors.live import quote_key, redis_client
    from signals.models import BarRun, RunState, Signal

    instruments = []
    for number in range(COINS):
        coin_id = f"coin-{number}"
        symbol = f"COIN{number}USDT"
        instrument = Instrument.objects.create(
            coin_id=coin_id, symbol=f"C{number}", name=coin_id, sector=f"sector {number}"
        )
        instruments.append(instrument)
        Listing.objects.create(
            instrument=instrument,
            exchange=EXCHANGE,
            symbol=symbol,
            tick_size="0.1",
            quantity_step="0.001",
        )
        last = NOW.replace(minute=0) - HOUR
        Ohlcv.objects.bulk_create(
            Ohlcv(
                instrument=instrument,
                timeframe="1h",
                open_time=last - hours * HOUR,
                open=100.0,
                high=100.5,
                low=99.5,
                close=100.0,
                volume=1_000_000.0,
                source=EXCHANGE,
                received_at=NOW,
            )
            for hours in range(24 * 33)
        )
        Series.objects.create(key=candle_key(coin_id, "1h"), revision=1)
        quote = Quote(
            exchange=EXCHANGE,
            symbol=symbol,
            best_bid=99.9,
            bid_quantity=1_000.0,
            best_ask=100.1,
            ask_quantity=1_000.0,
            event_time=NOW + timedelta(seconds=5),
            received_at=datetime.now(UTC),
            sequence=1,
        )
        redis_client().set(quote_key(EXCHANGE, symbol), msgspec.json.encode(quote))
    for number in range(BARS):
        bar = NOW - HOUR + timedelta(seconds=number) / 1_000
        run = BarRun.objects.create(
            timeframe="1h", bar_open_time=bar, state=RunState.DONE, started_at=NOW, finished_at=NOW
        )
        Signal.objects.bulk_create(
            Signal(
                strategy="consensus",
                instrument=instrument,
                timeframe="1h",
                bar_open_time=bar,
                at=NOW,
                direction=1 if number % 2 else -1,
                confidence=0.8,
                price=100.0,
                position_size=0.02,
                expires_at=NOW + HOUR,
                run=run,
                created_at=NOW,
            )
            for instrument in instruments
        )


def make_account(name: str) -> int:
    """An account that was there before the first bar."""
    from trading.services import create_account

    account = create_account(
        name=name, initial_capital=Decimal(10_000), at=NOW - timedelta(minutes=5)
    )
    return account.pk


def work_alone(account_id: int) -> None:
    """Work everything off here."""
    from trading.services import advance_account

    advance_account(account_id=account_id)


def check_account(account_id: int) -> None:
    """Raises RuntimeError unless each signal was executed once and the books add up."""
    from trading.models import Fill, Order
    from trading.services import reconcile

    wanted = COINS + 2 * COINS * (BARS - 1)
    filled = Fill.objects.filter(account=account_id).count()
    entries = Order.objects.filter(account=account_id, leg="open").count()
    mismatches = reconcile(account_id=account_id).mismatches
    if filled != wanted or entries != COINS * BARS or mismatches:
        raise RuntimeError(f"{filled} fills of {wanted}, {entries} openings, {mismatches}")


def run_workers(shares: list[list[int]]) -> float:
    """One process for each share of accounts, all beginning at once; seconds until the last."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, json.dumps(share)],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in shares
    ]
    for worker in workers:
        if worker.stdout is None or worker.stdout.readline() != "ready\n":
            raise RuntimeError("a worker did not come up")
    seconds = []
    for worker in workers:
        if worker.stdin is not None:
            worker.stdin.write("go\n")
            worker.stdin.flush()
    for worker in workers:
        output, _ = worker.communicate()
        if worker.returncode:
            raise RuntimeError("a worker failed")
        seconds.append(float(output))
    return max(seconds)


def write_floor() -> float:
    """Seconds to write what the account "alone" was written, with plain SQL and no thought."""
    tables = (
        *("risk_riskdecision", "trading_order", "trading_fill"),
        *("trading_ledgertransaction", "trading_ledgerentry", "trading_trade"),
    )
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"CREATE TABLE floor_{table} (LIKE {table} INCLUDING ALL)")
        cursor.execute("SELECT id, account_id FROM trading_position LIMIT 1")
        position, account = cursor.fetchone()
        cursor.execute("SELECT profile_id FROM trading_account WHERE id = %s", [account])
        (profile,) = cursor.fetchone()
        rows = {table: _rows(cursor, table) for table in tables}
    signals = COINS * BARS
    began = time.perf_counter()
    for number in range(signals):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM risk_riskprofile WHERE id = %s FOR UPDATE", [profile])
            for table in tables:
                names, values = rows[table]
                share = values[
                    len(values) * number // signals : len(values) * (number + 1) // signals
                ]
                for row in share:
                    marks = ", ".join(["%s"] * len(names))
                    cursor.execute(
                        f"INSERT INTO floor_{table} ({', '.join(names)}) VALUES ({marks})", row
                    )
            for _ in range(2):
                cursor.execute("UPDATE trading_account SET cash = cash WHERE id = %s", [account])
                cursor.execute(
                    "UPDATE trading_position SET total_cost = total_cost WHERE id = %s", [position]
                )
    return time.perf_counter() - began


def _rows(cursor: Any, table: str) -> tuple[list[str], list[Any]]:
    """All columns but the id, JSON as text."""
    cursor.execute(f"SELECT * FROM {table} ORDER BY id")
    names = [column.name for column in cursor.description]
    found = [
        [json.dumps(value) if isinstance(value, (dict, list)) else value for value in row[1:]]
        for row in cursor.fetchall()
    ]
    return names[1:], found


def throw_switch() -> tuple[float, int]:
    """Halt the desk while 16 workers open positions in eight accounts; (seconds to the answer,
    openings that were committed after it)."""
    from trading.models import Order
    from trading.services.trading_state import set_desk_state

    # A process that serves people has met its broker before.
    set_desk_state(state="active", reason="before the measurement", by="benchmark")
    accounts = [make_account(f"stopped {number}") for number in range(ACCOUNTS)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, json.dumps(accounts[number % ACCOUNTS :])],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(WORKERS)
    ]
    for worker in workers:
        if worker.stdout is None or worker.stdout.readline() != "ready\n":
            raise RuntimeError("a worker did not come up")
    for worker in workers:
        if worker.stdin is not None:
            worker.stdin.write("go\n")
            worker.stdin.flush()
    openings = Order.objects.filter(account__in=accounts, leg="open")
    while openings.count() < 50:
        time.sleep(0.01)
    began = time.perf_counter()
    set_desk_state(state="halted", reason="the switch is measured", by="benchmark")
    answered = time.perf_counter() - began
    before = openings.count()
    for worker in workers:
        worker.communicate()
    return answered, openings.count() - before
