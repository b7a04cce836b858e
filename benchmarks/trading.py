"""What trading costs: `python -m benchmarks.trading [--json] [--only ...]`.

`report`: 100,000 fills of a year, 50,000 round trips with hourly equity, reported as JSON and HTML.
`stop`: from the quote that touches a stop to its fill. `mark`: 1,000 open positions marked to
market; `watch`: one quote that changes nothing; `audit`: the reconciliation of 100,000 fills.
`execution`: signals a second on one account and over eight, also by sixteen workers at once;
`live`: from a signal's row to its fill, all processes running.
Exits 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields

from benchmarks.measures import Measure, own_servers, show
from benchmarks.trading_live import measure_trading_live


def measure_report() -> list[Measure]:
    """Metrics, JSON and HTML of a large account."""
    with own_servers():
        # Django's models are there only now.
        from benchmarks.trading_report import measure_reports

        return measure_reports()


def measure_execution() -> list[Measure]:
    """Signals that turn positions around, by one worker and by many."""
    with own_servers():
        from benchmarks.trading_storm import measure_storm

        return measure_storm()


def _of_marks(name: str) -> list[Measure]:
    with own_servers():
        from benchmarks import trading_marks

        return trading_marks.SECTIONS[name]()


def measure_stop() -> list[Measure]:
    """Stops that one quote touches."""
    with own_servers():
        from benchmarks.trading_stops import measure_stops

        return measure_stops()


SECTIONS: dict[str, Callable[[], list[Measure]]] = {
    "report": measure_report,
    "mark": lambda: _of_marks("mark"),
    "watch": lambda: _of_marks("watch"),
    "audit": lambda: _of_marks("audit"),
    "stop": measure_stop,
    "execution": measure_execution,
    "live": measure_trading_live,
}


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trading", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument(
        "--only", action="append", choices=SECTIONS,
        help="measure this section only; may be given several times",
    )  # fmt: skip
    options = parser.parse_args()
    names = options.only or list(SECTIONS)
    measures = SECTIONS[names[0]]() if len(names) == 1 else _each_apart(names)
    return show(measures, as_json=options.json)


def _each_apart(names: Sequence[str]) -> list[Measure]:
    """Each section in a process of its own: Django serves one database for as long as it lives."""
    measures: list[Measure] = []
    for name in names:
        command = [sys.executable, "-m", "benchmarks.trading", "--json", "--only", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if not done.stdout:
            raise RuntimeError(f"section {name} has failed")
        for row in json.loads(done.stdout)["measures"]:
            measures.append(Measure(**{item.name: row[item.name] for item in fields(Measure)}))
    return measures


if __name__ == "__main__":
    raise SystemExit(main())
