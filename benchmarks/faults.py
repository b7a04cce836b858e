"""kill -9 in the middle of trading, again and again: are the books the same every time?

    python -m benchmarks.faults --runs 200
    python -m benchmarks.faults --runs 6 --seed 3

Each run plays the same sequence of signals, quotes, settlements and orders, which
benchmarks.fault_script describes, on servers and processes of its own. At a random moment a worker,
beat, Redis or PostgreSQL is killed with -9, in every third run in the middle of a fill: after the
order was matched, before the transaction is committed. What was killed comes back, and in the end
fills, ledger, positions, orders, trades and cash must be those of a run in which nothing was
killed. Exit code 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg2
import redis
from celery import Celery
from rich.console import Console
from rich.table import Table

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
from benchmarks.fault_world import (
    PROJECT,
    VICTIMS,
    Cluster,
    FaultWorld,
    connect,
    make_cluster,
    running_world,
    world_environment,
)
from collectors.marketdata import Quote

FIRST_MESSAGE_S = 8.0  # from the start of a worker to its first task, at most
LONGEST_STEP_S = 90.0
QUIET_S = 6.0  # longer than the sweeps' five seconds
MOST_AWAY_S = 1.5
QUOTE_EVERY_S = 0.1
IN_A_FILL_S = 0.5
HINTS = ("advance_accounts", "sweep_orders", "pay_funding")

# What must be equal, without ids and times.
STATE = {
    "fills": """
        SELECT o.symbol, o.kind, o.leg, o.side, f.price_ticks, f.quantity_steps, f.liquidity,
               f.fee, f.realised_pnl, f.slippage
        FROM trading_fill f JOIN trading_order o ON o.id = f.order_id""",
    "ledger": """
        SELECT t.kind, e.book, e.amount
        FROM trading_ledgerentry e JOIN trading_ledgertransaction t ON t.id = e.transaction_id""",
    "positions": """
        SELECT i.coin_id, p.quantity_steps, p.total_cost, p.realised_pnl, p.stop_loss, p.take_profit
        FROM trading_position p JOIN collectors_instrument i ON i.id = p.instrument_id""",
    "orders": """
        SELECT symbol, kind, leg, side, quantity_steps, filled_steps, limit_ticks, trigger_ticks,
               status FROM trading_order""",
    "trades": """
        SELECT i.coin_id, t.direction, t.quantity, t.pnl, t.fees, t.slippage, t.funding,
               t.exit_reason
        FROM trading_trade t JOIN collectors_instrument i ON i.id = t.instrument_id""",
    "decisions": """
        SELECT i.coin_id, d.direction, d.is_approved, d.rejection_reason
        FROM risk_riskdecision d JOIN collectors_instrument i ON i.id = d.instrument_id""",
    "cash": "SELECT cash FROM trading_account",
    "states": "SELECT trading_state FROM risk_riskprofile",
}
PAUSE = f"""
CREATE FUNCTION faults_pause() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep({IN_A_FILL_S}); RETURN NEW; END $$;
CREATE TRIGGER faults_pause AFTER INSERT ON trading_fill
    FOR EACH ROW EXECUTE FUNCTION faults_pause();
"""

State = dict[str, list[list[Any]]]


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


@dataclass
class Report:
    """What came of a run; `difference` is empty when the books are as they should be."""

    run: int
    fault: Fault | None
    seconds: float
    difference: str = ""
    was_in_a_fill: bool = False


def main() -> int:
    """Run the kill tests and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=2, help="runs at the same time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return _play_share(json.loads(given.one))
    result = run_faults(runs=given.runs, seed=given.seed, parallel=given.parallel)
    if given.json:
        print(json.dumps(result))
    else:
        _show(result)
    return 0 if result["is_kept"] else 1


def run_faults(*, runs: int, seed: int, parallel: int = 2) -> dict[str, Any]:
    """Play the undisturbed run, then `runs` disturbed ones; every report, and whether all agree."""
    with tempfile.TemporaryDirectory(prefix="mts-faults-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)
        cluster = make_cluster(
            folder / "made",
            seed_module="benchmarks.fault_script",
            environment=world_environment(folder),
        )
        expected = _undisturbed(folder, cluster)
        shares = [list(range(number, runs, parallel)) for number in range(parallel)]
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.faults", "--one", json.dumps(share)],
                cwd=PROJECT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for share in (
                {
                    "folder": str(folder),
                    "runs": numbers,
                    "seed": seed,
                    "binaries": str(cluster.binaries),
                    "user": cluster.user,
                    "expected": expected,
                }
                for numbers in shares
                if numbers
            )
        ]
        reports = []
        for child in children:
            output, _ = child.communicate()
            reports += [json.loads(line) for line in output.splitlines()]
    reports.sort(key=lambda report: report["run"])
    bad = [report for report in reports if report["difference"]]
    return {
        "runs": len(reports),
        "different": len(bad),
        "victims": dict(Counter(report["fault"]["victim"] for report in reports)),
        "in_a_fill": sum(report["was_in_a_fill"] for report in reports),
        "fills": len(expected["fills"]),
        "reports": reports,
        "is_kept": len(reports) == runs and not bad,
    }


def fault_of(run: int, seed: int) -> Fault:
    """The fault of a run: drawn once, the same for the same seed."""
    chance = random.Random(f"{seed}:{run}")
    is_in_a_fill = run % 3 == 2
    victim = chance.choice(("worker", "postgres") if is_in_a_fill else VICTIMS)
    return Fault(
        victim=victim,
        step=chance.choice(_steps_with_fills() if is_in_a_fill else range(len(STEPS))),
        # A fill is waited for from the beginning of its step, or it would be over.
        after_s=0.0 if is_in_a_fill else chance.uniform(0.0, 0.6),
        away_s=chance.uniform(0.0, MOST_AWAY_S),
        is_in_a_fill=is_in_a_fill,
    )


def _steps_with_fills() -> list[int]:
    before = (0, *(step.fills for step in STEPS))
    return [number for number, step in enumerate(STEPS) if step.fills > before[number]]


def _undisturbed(folder: Path, cluster: Cluster) -> State:
    with _world(folder / "calm", cluster) as world:
        player = Player(world)
        for number, step in enumerate(STEPS):
            player.play(number, step)
        player.rest()
        return read_state(world)


def _play_share(share: dict[str, Any]) -> int:
    folder = Path(share["folder"])
    cluster = Cluster(folder=folder / "made", binaries=Path(share["binaries"]), user=share["user"])
    for run in share["runs"]:
        began = time.monotonic()
        fault = fault_of(run, share["seed"])
        report = Report(run=run, fault=fault, seconds=0.0)
        try:
            with _world(folder / f"run{run}", cluster) as world:
                try:
                    report.was_in_a_fill = play_with(world, fault)
                    report.difference = difference(share["expected"], read_state(world))
                except Exception as error:
                    tail = (world.folder / "worker.log").read_text()[-1500:]
                    report.difference = f"{type(error).__name__}: {error}\n{tail}"
        except Exception as error:
            report.difference = f"{type(error).__name__}: {error}"
        report.seconds = round(time.monotonic() - began, 2)
        print(json.dumps(asdict(report)), flush=True)
    return 0


def _world(folder: Path, cluster: Cluster) -> contextlib.AbstractContextManager[FaultWorld]:
    # Market time begins when everything is up, or a little later.
    anchor = datetime.now(UTC) + timedelta(seconds=0.5)
    return running_world(folder, cluster, start=START, anchor=anchor)


def play_with(world: FaultWorld, fault: Fault) -> bool:
    """Play the sequence with one fault in it; whether it came in the middle of a fill."""
    player = Player(world)
    hit = False
    for number, step in enumerate(STEPS):
        if number != fault.step:
            player.play(number, step)
            continue
        if fault.is_in_a_fill:
            player.execute(PAUSE)
        player.begin(number, step)
        hit = player.disturb(fault)
        if fault.is_in_a_fill:
            player.execute("DROP TRIGGER faults_pause ON trading_fill")
        player.settle(number, step)
    player.rest()
    return hit


def read_state(world: FaultWorld) -> State:
    """The books, sorted, as JSON would have them."""
    with contextlib.closing(connect(world.database)) as connection:
        with connection.cursor() as cursor:
            state: State = {}
            for name, query in STATE.items():
                cursor.execute(query)
                rows = [[_plain(value) for value in row] for row in cursor.fetchall()]
                state[name] = sorted(rows, key=repr)
    return state


def difference(expected: State, found: State) -> str:
    """Which rows are missing and which are too many; empty for equal books."""
    lines = []
    for name in STATE:
        wanted = Counter(map(repr, expected[name]))
        got = Counter(map(repr, found[name]))
        lines += [f"{name}: missing {row}" for row in (wanted - got).elements()]
        lines += [f"{name}: too many {row}" for row in (got - wanted).elements()]
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, str, bool, float)) else str(value)


class Player:
    """Plays the steps in a world, and keeps its quotes alive meanwhile."""

    def __init__(self, world: FaultWorld) -> None:
        self._world = world
        self._prices = {coin_id: price for coin_id, _, price in COINS}
        self._hints = Celery(broker=f"redis+socket://{world.socket}")
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
        """Wait for the fills of the step and the end of its bar. Raises TimeoutError."""
        deadline = time.monotonic() + LONGEST_STEP_S
        hinted = time.monotonic()
        while True:
            rows = self.execute(
                "SELECT (SELECT count(*) FROM trading_fill), (SELECT count(*) FROM"
                " trading_fundingpayment), processed_bar FROM trading_account"
            )
            fills, payments, bar = rows[0]
            paid = sum(len(each.funding) for each in STEPS[: number + 1])
            if fills == step.fills and payments == paid and bar is not None:
                if bar >= bar_of(number):
                    return
            if fills > step.fills:
                raise RuntimeError(f"{step.name}: {fills} fills, not {step.fills}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{step.name}: {fills} fills of {step.fills}, bar {bar}")
            if time.monotonic() > hinted + 0.5:
                # As later events would: the sweeps alone would take their time.
                hinted = time.monotonic()
                self._hint()
            time.sleep(0.03)

    def rest(self) -> None:
        """Wait until the sweeps have come once more, and end."""
        self._hint()
        time.sleep(QUIET_S)
        self._stop.set()
        self._publisher.join()

    def execute(self, query: str, *values: Any) -> list[Any]:
        """One statement, again and again while the database is away."""
        deadline = time.monotonic() + LONGEST_STEP_S
        while True:
            try:
                with contextlib.closing(connect(self._world.database)) as connection:
                    with connection.cursor() as cursor:
                        cursor.execute(query, values)
                        return cursor.fetchall() if cursor.description else []
            except psycopg2.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

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


def _show(result: dict[str, Any]) -> None:
    table = Table(title="kill -9 in the middle of trading")
    for column in ("runs", "different", "killed", "in the middle of a fill", "fills a run"):
        table.add_column(column)
    killed = ", ".join(f"{name} {count}" for name, count in sorted(result["victims"].items()))
    table.add_row(
        str(result["runs"]), str(result["different"]), killed, str(result["in_a_fill"]),
        str(result["fills"]),
    )  # fmt: skip
    console = Console()
    console.print(table)
    for report in result["reports"]:
        if report["difference"]:
            console.print(f"run {report['run']} {report['fault']}\n{report['difference']}")


if __name__ == "__main__":
    raise SystemExit(main())
