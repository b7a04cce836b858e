"""Who plays the sequence of the kill tests in a world: market, strategies and the killer."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg2
import redis
from celery import Celery

from benchmarks.fault_script import (
    COINS,
    EXCHANGE,
    HALF_SPREAD,
    START,
    STEPS,
    Step,
    bar_of,
    symbol_of,
)
from benchmarks.fault_world import FaultWorld, connect
from collectors.marketdata import Quote

LONGEST_STEP_S = 90.0
QUIET_S = 6.0  # longer than the sweeps' five seconds
QUOTE_EVERY_S = 0.1
HINTS = ("advance_accounts", "sweep_orders", "pay_funding")


@dataclass(frozen=True)
class Fault:
    """Who is killed, in which step and how long after its beginning, and how long it stays away.

    `is_in_a_fill`: as soon after that as a fill is written and not committed.
    """

    victim: str
    step: int
    after_s: float
    away_s: float
    is_in_a_fill: bool


class Player:
    """Plays the steps in a world, and keeps its quotes alive meanwhile."""

    def __init__(self, world: FaultWorld) -> None:
        self._world = world
        self._prices = {coin_id: price for coin_id, _, price in COINS}
        self._database: Any = None  # kept open: a new connection costs the server a process
        self._hints = Celery(broker=f"redis+socket://{world.socket}", set_as_current=False)
        self._hints.conf.task_ignore_result = True
        self._hints.conf.broker_transport_options = {"socket_timeout": 1.0}
        self._stop = threading.Event()
        self._publisher = threading.Thread(target=self._publish, daemon=True)
        self._publisher.start()

    def play(self, number: int, step: Step) -> None:
        """One step, until the books have come to rest."""
        self.begin(number, step)
        self.settle(number, step)

    def begin(self, number: int, step: Step) -> None:
        """Let the step happen, and give the hints that the product would give."""
        self._prices.update(step.quotes)
        time.sleep(2 * QUOTE_EVERY_S if step.quotes else 0.0)
        for coin_id, rate in step.funding.items():
            self.execute(
                "INSERT INTO collectors_fundingrate (instrument_id, exchange, symbol, funding_time,"
                " rate, mark_price, interval_hours, is_confirmed, received_at)"
                " SELECT id, %s, %s, %s, %s, %s, 8, true, now() FROM collectors_instrument"
                " WHERE coin_id = %s",
                EXCHANGE, symbol_of(coin_id), self._market_now(), rate, self._prices[coin_id],
                coin_id,
            )  # fmt: skip
        for key in step.orders:
            self.execute(
                "UPDATE trading_order SET status = 'working', at = %s WHERE key = %s",
                self._market_now(), key,
            )  # fmt: skip
        self.execute(
            "UPDATE signals_barrun SET state = 'done', finished_at = now()"
            " WHERE bar_open_time = %s",
            bar_of(number),
        )
        self._hint()

    def disturb(self, fault: Fault) -> bool:
        """Kill, wait, bring back; whether a fill was open at that moment."""
        time.sleep(fault.after_s)
        is_open = fault.is_in_a_fill and self._wait_for_an_open_fill(STEPS[fault.step].fills)
        self._world.kill(fault.victim)
        time.sleep(fault.away_s)
        self._world.bring_back(fault.victim)
        return is_open

    def settle(self, number: int, step: Step) -> None:
        """Wait for what the step is to bring and the end of its bar. Raises TimeoutError."""
        deadline = time.monotonic() + LONGEST_STEP_S
        hinted = time.monotonic()
        while True:
            self._world.tend()
            rows = self.execute(
                "SELECT (SELECT count(*) FROM trading_fill), (SELECT count(*) FROM"
                " trading_fundingpayment), (SELECT max(watermark_ticks) FROM trading_order),"
                " processed_bar FROM trading_account"
            )
            fills, payments, watermark, bar = rows[0]
            paid = sum(len(each.funding) for each in STEPS[: number + 1])
            has_followed = (watermark or 0) >= step.watermark
            if fills == step.fills and payments == paid and has_followed and bar is not None:
                if bar >= bar_of(number):
                    return
            if fills > step.fills:
                raise RuntimeError(f"{step.name}: {fills} fills, not {step.fills}")
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{step.name}: {fills} fills of {step.fills}, {payments} payments of {paid}, "
                    f"watermark {watermark} of {step.watermark}, bar {bar}"
                )
            if time.monotonic() > hinted + 0.5:
                # As later events would: the sweeps alone would take their time.
                hinted = time.monotonic()
                self._hint()
            time.sleep(0.03)

    def rest(self) -> None:
        """Wait until the sweeps have come once more, and end."""
        self._hint()
        until = time.monotonic() + QUIET_S
        while time.monotonic() < until:
            self._world.tend()
            time.sleep(0.1)
        self._stop.set()
        self._publisher.join()
        self._leave_database()

    def execute(self, query: str, *values: Any) -> list[Any]:
        """One statement, again and again while the database is away."""
        deadline = time.monotonic() + LONGEST_STEP_S
        while True:
            try:
                if self._database is None:
                    self._database = connect(self._world.database)
                with self._database.cursor() as cursor:
                    cursor.execute(query, values)
                    return cursor.fetchall() if cursor.description else []
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                self._leave_database()
                if time.monotonic() > deadline:
                    raise
                self._world.tend()
                time.sleep(0.05)

    def _leave_database(self) -> None:
        """Let go of a connection whose server may be gone."""
        if self._database is not None:
            with contextlib.suppress(psycopg2.Error):
                self._database.close()
        self._database = None

    def _wait_for_an_open_fill(self, fills: int) -> bool:
        """Wait until a fill is written and not committed; False when all fills of the step were
        made meanwhile."""
        deadline = time.monotonic() + LONGEST_STEP_S
        query = (
            "SELECT (SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'),"
            " (SELECT count(*) FROM trading_fill)"
        )
        with contextlib.closing(connect(self._world.database)) as connection:
            with connection.cursor() as cursor:
                while time.monotonic() < deadline:
                    cursor.execute(query)
                    sleeping, made = cursor.fetchone()
                    if sleeping:
                        return True
                    if made >= fills:
                        return False
                    time.sleep(0.01)
        return False

    def _hint(self) -> None:
        for task in HINTS:
            with contextlib.suppress(Exception):
                self._hints.send_task(f"trading.tasks.{task}", queue="trading", retry=False)

    def _market_now(self) -> datetime:
        return START + (datetime.now(UTC) - self._world.anchor)

    def _publish(self) -> None:
        client = redis.Redis.from_url(f"unix://{self._world.socket}", socket_timeout=1.0)
        sequence = 0
        while not self._stop.wait(QUOTE_EVERY_S):
            sequence += 1
            with contextlib.suppress(redis.RedisError):
                for coin_id, price in list(self._prices.items()):
                    quote = Quote(
                        exchange=EXCHANGE,
                        symbol=symbol_of(coin_id),
                        best_bid=price - HALF_SPREAD,
                        bid_quantity=1_000.0,
                        best_ask=price + HALF_SPREAD,
                        ask_quantity=1_000.0,
                        event_time=self._market_now(),
                        received_at=datetime.now(UTC),
                        sequence=sequence,
                    )
                    key = f"orderbook:{quote.exchange}:{quote.symbol}"
                    client.set(key, msgspec.json.encode(quote), ex=3600)
        client.close()
