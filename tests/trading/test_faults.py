"""Six of the kill tests: processes die in the middle of trading, and the books are equal."""

from __future__ import annotations

import pytest

from benchmarks.faults import fault_of, run_faults

RUNS, SEED = 6, 1


@pytest.mark.long(60)
@pytest.mark.timeout(900)
def test_whatever_is_killed_the_books_are_those_of_a_calm_run() -> None:
    faults = [fault_of(run, SEED) for run in range(RUNS)]
    assert {fault.victim for fault in faults} == {"worker", "beat", "redis", "postgres"}
    assert sum(fault.is_in_a_fill for fault in faults) == 2
    result = run_faults(runs=RUNS, seed=SEED)
    assert [report["difference"] for report in result["reports"]] == [""] * RUNS
    assert result["is_kept"]
    assert result["in_a_fill"] == 2
