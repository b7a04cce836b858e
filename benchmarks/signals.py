"""What signals cost: `python -m benchmarks.signals [--json] [--only ...]`; takes some 10 minutes.

`pass`: every strategy over 10 instruments x 3 years of hourly candles, warm. `growth`: 10, 100 and
1,000 instruments x 1 year, results to disk month by month. `bar`: one live bar run in the database,
over 10 and 100 instruments. `live`: from the last candle of a bar to its signals, all processes
running. Exits 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.measures import Measure, own_servers, show
from benchmarks.signal_live import measure_live
from benchmarks.signal_pass import measure_growth, measure_pass

PARTS = ("pass", "growth", "bar", "live")


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.signals", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument(
        "--only", action="append", choices=PARTS,
        help="measure this part only; may be given several times",
    )  # fmt: skip
    options = parser.parse_args()
    works: dict[str, Callable[[], list[Measure]]] = {
        "pass": measure_pass,
        "growth": measure_growth,
        "bar": _measure_bar,
        "live": measure_live,
    }
    measures: list[Measure] = []
    for name in options.only or PARTS:
        measures += works[name]()
    return show(measures, as_json=options.json)


def _measure_bar() -> list[Measure]:
    with own_servers():
        # Django's models are there only now.
        from benchmarks.signal_bars import measure_bars

        return measure_bars()


if __name__ == "__main__":
    raise SystemExit(main())
