"""What collecting and reading candles costs: `python -m benchmarks.collectors [--json]`.

Starts its own PostgreSQL and Redis-protocol server, measures ours and the floors in turns, prints
the table, and exits 1 when a claimed ratio is missed. Takes some minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.measures import Measure, own_servers, show


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collectors", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument(
        "--only", action="append", choices=["upsert", "reading", "ticks", "memory"],
        help="measure this part only; may be given several times",
    )  # fmt: skip
    options = parser.parse_args()
    with own_servers():
        # Django's models are there only now.
        from benchmarks.backfill import measure_memory
        from benchmarks.candles import measure_reading, measure_upsert
        from benchmarks.ticks import measure_ticks

        works: dict[str, Callable[[], list[Measure]]] = {
            "upsert": measure_upsert,
            "reading": measure_reading,
            "ticks": lambda: [measure_ticks()],
            "memory": lambda: [measure_memory()],
        }
        wanted = options.only or list(works)
        measures = [each for name in works if name in wanted for each in works[name]()]
    return show(measures, as_json=options.json)


if __name__ == "__main__":
    raise SystemExit(main())
