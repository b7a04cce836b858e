"""Strategies that look ahead are caught, with the bar named; honest ones pass."""

import subprocess
import sys
from pathlib import Path

import pytest

from signals.certificate import certify, seeded_rows
from signals.codehash import code_hash, source_hash, source_of
from signals.fresh import maker_of
from signals.registry import STRATEGIES, build_strategy
from signals.worlds import INSTRUMENTS, build_world
from tests.signals import cheats

LOOK_AHEAD = [
    cheats.Shifted,
    cheats.Centred,
    cheats.Normalised,
    cheats.EarlyMacro,
    cheats.NextValidity,
    cheats.CutDependent,
    cheats.LateCheat,
    cheats.MonthEndCheat,
    cheats.BehindTheView,
    cheats.LongCheat,
]
ELSEWHERE = {
    cheats.CheatInConfidence: "confidence",
    cheats.CheatInStop: "stop_loss",
    cheats.CheatInTarget: "take_profit",
    cheats.CheatInSize: "position_size",
    cheats.CheatInDiagnostics: "rises",
}
REMEMBERING = [
    cheats.GlobalCount,
    cheats.GlobalExtreme,
    cheats.GlobalFuture,
    cheats.CachedByTime,
    cheats.ClassAttribute,
    cheats.Closure,
    cheats.Random,
]


def tried(kind):
    return certify(maker_of(kind()))


@pytest.mark.parametrize("kind", [cheats.Honest, cheats.HonestRecursive, cheats.RankedOpenly])
def test_an_honest_rule_passes(kind):
    certificate = tried(kind)
    assert certificate.is_passed, str(certificate)
    assert certificate.bars == 400
    assert certificate.active_rows > 50
    assert certificate.prefixes > certificate.bars
    assert certificate.poisons > 100
    assert certificate.driver_rows > 20


@pytest.mark.parametrize("kind", LOOK_AHEAD)
def test_a_look_ahead_is_caught_with_its_bar(kind):
    certificate = tried(kind)
    assert certificate.failed_check == "depends on later bars"
    assert certificate.failing_bar is not None
    assert f"{certificate.failing_bar:%Y-%m-%d %H:%M}" in str(certificate)


@pytest.mark.parametrize(("kind", "output"), ELSEWHERE.items())
def test_a_look_ahead_is_caught_in_every_output(kind, output):
    certificate = tried(kind)
    assert certificate.failed_check == "depends on later bars"
    assert certificate.failing_output == output


def test_a_look_ahead_that_the_world_gives_no_reason_for_is_caught_by_false_futures():
    certificate = tried(cheats.CrashShy)
    assert certificate.failed_check.startswith("depends on later values (bars")
    assert certificate.failing_bar is not None


def test_a_look_ahead_on_what_the_driver_gives_alone_is_caught():
    certificate = tried(cheats.DriverCheat)
    assert certificate.failed_check == "depends on where the data is cut"
    assert certificate.failing_bar is not None


@pytest.mark.parametrize("kind", [cheats.Ranked, cheats.Needy, cheats.CrowdCheat])
def test_who_depends_on_other_instruments_has_to_say_so(kind):
    certificate = tried(kind)
    assert certificate.failed_check.startswith("depends on other instruments")


@pytest.mark.parametrize("kind", REMEMBERING)
def test_a_strategy_that_remembers_is_caught_with_the_bar(kind):
    certificate = tried(kind)
    assert not certificate.is_passed
    assert certificate.failing_bar is not None


def test_a_state_that_one_trial_leaves_behind_does_not_reach_the_next():
    assert tried(cheats.GlobalFuture) == tried(cheats.GlobalFuture)
    assert cheats.SEEN_CLOSES == {}


def test_what_a_strategy_raises_is_reported():
    certificate = tried(cheats.Raising)
    assert certificate.failed_check == "raised"
    assert certificate.failing_output == "ZeroDivisionError: no score"
    assert "IndexError" in tried(cheats.RaisingLate).failing_output
    assert "read-only" in tried(cheats.Writing).failing_output


def test_impossible_output_is_reported():
    certificate = tried(cheats.Impossible)
    assert certificate.failed_check == "impossible output"
    assert "confidence 1.2" in certificate.failing_output
    infinite = tried(cheats.Infinite)
    assert (infinite.failed_check, infinite.failing_output) == ("not finite", "score")
    assert infinite.failing_bar is not None


def test_what_tell_raises_ends_the_trial():
    class Enough(Exception):
        pass

    def tell(done, steps):
        assert 0 < done <= steps
        if done > 10:
            raise Enough

    with pytest.raises(Enough):
        certify(maker_of(cheats.Honest()), tell=tell)


def test_the_world_has_the_instruments_that_are_asked_for():
    world = build_world(timeframe="1h", bars=400, macro_series=(), instruments=["solana"])
    assert world.instruments == (*INSTRUMENTS, "solana")
    assert world.close.min() < 1e-7
    assert world.close.max() > 1e6
    with pytest.raises(ValueError, match="read-only"):
        world.close[0, 0] = 1.0


def stored_history(bars=2_000):
    """A market of another timeframe's length, as if it had been stored."""
    return build_world(timeframe="1h", bars=bars, macro_series=("VIXCLS",))


def test_stored_history_is_tried_at_seeded_cuts():
    history = stored_history()
    passed = certify(maker_of(cheats.Honest()), stored=history, seed="2021-09-01")
    assert passed.is_passed
    assert passed.stored_cuts == 100
    assert "100 cuts of stored history" in str(passed)
    rows = seeded_rows(cheats.Honest(), history, seed="x")
    assert rows == seeded_rows(cheats.Honest(), history, seed="x")
    assert rows != seeded_rows(cheats.Honest(), history, seed="y")
    assert len(set(rows)) == 100


def test_what_only_stored_history_shows_is_caught_with_its_bar():
    certificate = certify(maker_of(cheats.SeesStoredOnly()), stored=stored_history())
    assert certificate.failed_check == "depends on later bars"
    assert certificate.failing_bar is not None
    assert 0 <= certificate.stored_cuts < 100


def test_too_little_stored_history_is_said():
    certificate = certify(maker_of(cheats.Honest()), stored=stored_history(bars=300).rows(0, 60))
    assert certificate.is_passed
    assert certificate.stored_cuts == 0
    assert "no cut of stored history" in str(certificate)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.long(6)
def test_every_registered_strategy_passes(name):
    certificate = certify(maker_of(build_strategy(name)))
    assert certificate.is_passed, str(certificate)
    assert certificate.active_rows > 100


def test_the_hash_follows_parameters_and_code():
    first = code_hash(build_strategy("mean_reversion"))
    assert first == code_hash(build_strategy("mean_reversion", {"hold_bars": 24}))
    assert first != code_hash(build_strategy("mean_reversion", {"hold_bars": 12}))
    name = "signals.strategies.mean_reversion"
    text = source_of(name)
    assert source_hash(name, text) == source_hash(name, text)
    assert source_hash(name, text) != source_hash(name, f"{text}\nANOTHER = 1\n")
    assert source_hash(name, text) != source_hash(name, f"import scipy\n{text}")
    assert source_hash(name, text) != source_hash(name, f"import signals.aggregation\n{text}")


def test_the_hash_is_the_same_in_another_process():
    script = (
        "from signals.codehash import code_hash; from signals.registry import build_strategy;"
        "print(code_hash(build_strategy('mean_reversion')))"
    )
    project = Path(__file__).resolve().parents[2]
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == code_hash(build_strategy("mean_reversion"))
