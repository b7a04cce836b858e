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
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.fault_player import Fault, Player
from benchmarks.fault_script import (
    START,
    STEPS,
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

MOST_AWAY_S = 1.5
IN_A_FILL_S = 0.5

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
               watermark_ticks, status FROM trading_order""",
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
                    log = (world.folder / "worker.log").read_text()[-1500:]
                    said = "\n".join([f"{type(error).__name__}: {error}", *world.said])
                    report.difference = f"{said}\n{log}"
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
