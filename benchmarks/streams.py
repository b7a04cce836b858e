"""What keeping order books costs: `python -m benchmarks.streams [--json]`.

Generated traffic on one core: ours, with every check, beside typed decode and bare upkeep of a
sorted list, and beside cryptofeed's own handlers. Ours is claimed to reach three quarters of the
former's speed and three times the latter's. Exits 1 when a claim does not hold, and also when the
peer is not installed and was not left out by its name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from benchmarks.book_upkeep import measure_books
from benchmarks.measures import Measure, show

PEER = "cryptofeed"


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--messages", type=int, default=20_000, help="of each kind (20,000)")
    parser.add_argument(
        "--without", action="append", default=[], choices=[PEER], help="leave out this peer"
    )
    parser.add_argument(
        "--only", action="append", choices=["books"],
        help="measure this part only; may be given several times",
    )  # fmt: skip
    options = parser.parse_args()
    with_peer = PEER not in options.without
    works: dict[str, Callable[[], list[Measure]]] = {
        "books": lambda: measure_books(options.messages, with_peer=with_peer)
    }
    try:
        measures = [each for name in options.only or works for each in works[name]()]
    except ModuleNotFoundError as missing:
        print(missing, file=sys.stderr)
        return 1
    return show(measures, as_json=options.json)


if __name__ == "__main__":
    raise SystemExit(main())
