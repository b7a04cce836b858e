"""What trading costs: `python -m benchmarks.trading [--json] [--only ...]`.

`report`: 100,000 fills of a year, 50,000 round trips with hourly equity, reported as JSON and HTML.
Exits 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.measures import Measure, own_servers, show


def measure_report() -> list[Measure]:
    """Metrics, JSON and HTML of a large account."""
    with own_servers():
        # Django's models are there only now.
        from benchmarks.trading_report import measure_reports

        return measure_reports()


SECTIONS: dict[str, Callable[[], list[Measure]]] = {
    "report": measure_report,
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
    measures: list[Measure] = []
    for name in options.only or SECTIONS:
        measures += SECTIONS[name]()
    return show(measures, as_json=options.json)


if __name__ == "__main__":
    raise SystemExit(main())
