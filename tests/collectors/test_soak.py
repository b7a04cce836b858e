"""The parts of the long run that say whether it was one: the plan, the laws, the slope."""

import pytest

from benchmarks.soak_checks import Law
from benchmarks.soak_faults import EXCHANGES, MESSAGE_FAULTS, REDIS, plan
from benchmarks.stream_soak import SETTLING_S, slope_per_hour


def test_the_same_seed_is_the_same_run_and_half_an_hour_has_every_mishap_everywhere() -> None:
    mishaps = plan(seed=7, seconds=1800)
    assert mishaps == plan(seed=7, seconds=1800)
    assert mishaps != plan(seed=8, seconds=1800)
    happens = {(mishap.place, mishap.kind) for mishap in mishaps}
    lines = ("ws_disconnect", "ws_silent", "ws_restart", "outage")
    assert happens >= {(place, kind) for place in EXCHANGES for kind in (*MESSAGE_FAULTS, *lines)}
    assert sum(mishap.place == REDIS for mishap in mishaps) >= 10


@pytest.mark.parametrize("seed", range(20))
def test_nothing_lasts_beyond_the_end(seed: int) -> None:
    mishaps = plan(seed=seed, seconds=300)
    assert mishaps == sorted(mishaps, key=lambda mishap: mishap.at_s)
    assert all(0 <= mishap.at_s <= mishap.at_s + mishap.lasts_s < 300 for mishap in mishaps)


def test_a_law_that_was_looked_at_nowhere_is_not_kept() -> None:
    assert not Law("nothing was compared").is_kept
    assert Law("all were right", looked_at=3).is_kept
    assert not Law("one was wrong", looked_at=3, broken=["that one"]).is_kept


def test_the_slope_of_the_memory_is_that_of_the_time_after_the_start() -> None:
    loading = [(100.0 + at, at * 2.0) for at in range(0, int(SETTLING_S), 10)]
    steady = [(100.0 + SETTLING_S + at, 300 + at / 360) for at in range(0, 600, 10)]
    assert slope_per_hour([*loading, *steady]) == pytest.approx(10.0)
    assert slope_per_hour(loading) is None
