"""What the streams cost: `python -m benchmarks.streams [--json]`; takes some 40 minutes.

`books`: generated traffic on one core: ours, with every check, beside typed decode and bare upkeep
of a sorted list, and beside cryptofeed's own handlers. Ours is claimed to reach three quarters of
the former's speed and three times the latter's. `load`: a stream process on live sockets, 20
symbols at two exchanges at ten times their real rate. `long`: half an hour at four times the real
rate of everything, for the memory and for the closes of one-minute candles. Exits 1 when a claim
does not hold, and also when the peer is not installed and was not left out by its name.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.book_upkeep import measure_books
from benchmarks.measures import Measure, own_servers, show

PEER = "cryptofeed"
PARTS = ("books", "load", "long")


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--messages", type=int, default=20_000, help="of each kind (20,000)")
    parser.add_argument(
        "--without", action="append", default=[], choices=[PEER], help="leave out this peer"
    )
    parser.add_argument(
        "--only", action="append", choices=PARTS,
        help="measure this part only; may be given several times",
    )  # fmt: skip
    options = parser.parse_args()
    wanted = options.only or PARTS
    measures: list[Measure] = []
    try:
        if "books" in wanted:
            with_peer = PEER not in options.without
            measures += measure_books(options.messages, with_peer=with_peer)
    except ModuleNotFoundError as missing:
        print(missing, file=sys.stderr)
        return 1
    live = [part for part in PARTS if part in wanted and part != "books"]
    if live:
        with own_servers():
            # Django's models are there only now.
            from benchmarks.stream_live import measure_live

            measures += measure_live(live)
    return show(measures, as_json=options.json)


if __name__ == "__main__":
    raise SystemExit(main())
