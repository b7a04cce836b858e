"""What benchmarks share: servers of their own, medians taken in turns, and the table."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

NOISE = (
    "Medians of runs taken in turns on one machine, server and client together; shared machines"
    " vary by a third from run to run, so compare rows of one table only."
)


@dataclass(frozen=True)
class Measure:
    """Ours beside a floor or a peer. `bound` is the ratio that is claimed, None for none."""

    claim: str
    ours: float
    floor: float
    unit: str
    bound: float | None = None
    beside: str = ""

    @property
    def ratio(self) -> float:
        """Ours as a multiple of the floor; both are costs, so that less is better."""
        return self.ours / self.floor

    @property
    def is_kept(self) -> bool:
        """Whether the claim holds."""
        return self.bound is None or self.ratio <= self.bound


def in_turns(
    runs: int,
    *works: Callable[[], object],
    before: Callable[[int], None] = lambda work: None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """The median seconds of each work, run in turns; `before` prepares one, outside of the time.
    `time.process_time` as the clock leaves out what other processes took of a core."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(runs):
        for number, work in enumerate(works):
            before(number)
            started = clock()
            work()
            taken[number].append(clock() - started)
    return [statistics.median(each) for each in taken]


@contextlib.contextmanager
def own_servers() -> Iterator[None]:
    """Run with a PostgreSQL and a Redis-protocol server of our own, and Django on an empty
    database. The servers are those of the tests: nothing in them survives a power cut, which
    spares ours and the floors the same."""
    from tests.plugins.servers import prepare_environment

    with contextlib.ExitStack() as stack:
        prepare_environment(stack, with_servers=True)
        os.environ["DJANGO_SETTINGS_MODULE"] = "mts_project.settings"
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield


def show(measures: Sequence[Measure], *, as_json: bool) -> int:
    """Print the table; 1 when a claim does not hold."""
    if as_json:
        rows = [{**asdict(each), "ratio": each.ratio, "is_kept": each.is_kept} for each in measures]
        print(json.dumps({"measures": rows, "note": NOISE}, indent=2))
    else:
        print(f"{'':44} {'ours':>10} {'floor':>10} {'':6} {'ratio':>6} {'bound':>6}")
        for each in measures:
            bound = "" if each.bound is None else f"{each.bound:.2f}"
            missed = "" if each.is_kept else "  MISSED"
            print(
                f"{each.claim:44} {each.ours:10.3f} {each.floor:10.3f} {each.unit:6}"
                f" {each.ratio:6.2f} {bound:>6}{missed}"
            )
            if each.beside:
                print(f"{'':44} {each.beside}")
        print(NOISE)
    return 0 if all(each.is_kept for each in measures) else 1
