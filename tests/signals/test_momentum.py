"""Momentum against its rule told bar by bar, as nobody would compute it."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signals.indicators import atr
from signals.registry import build_strategy

FIRST = datetime(2021, 3, 1, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)
BARS = 1500
DAYS = (3, 7, 14, 28)


def trending(seed: int) -> np.ndarray:
    """A price with a drift that turns every ten days or so."""
    rng = np.random.default_rng(seed)
    drift = np.repeat(rng.normal(size=BARS // 240 + 1) * 0.0012, 240)[:BARS]
    return 100.0 * np.exp(np.cumsum(drift + rng.normal(size=BARS) * 0.004))


def told(close: np.ndarray, reach: np.ndarray, row: dict) -> list[tuple[int, float, float]]:
    """(direction, stop, size) of each bar, one after the other."""
    logs, answers = np.log(close), []
    returns = np.diff(logs, prepend=logs[0])
    side, since, base, stopped = 0, 0, 0, False
    for bar in range(len(close)):
        deviation = returns[bar - 335 : bar + 1].std() if bar >= 335 else 0.0
        parts = [
            (logs[bar] - logs[bar - 24 * days]) / (deviation * math.sqrt(24 * days))
            if deviation and bar >= 24 * days
            else 0.0
            for days in DAYS
        ]
        score = sum(max(-1.0, min(1.0, part)) for part in parts) / 4.0
        before = side
        if abs(score) >= row["entry_score"]:
            side, since = (1 if score > 0 else -1), bar
        elif side and (score * side < row["exit_score"] or bar - since >= row["hold_bars"]):
            side = 0
        moment = FIRST + bar * HOUR
        if side != before or (moment.weekday() == 0 and moment.hour == 0):
            base, stopped = bar, False
            yearly = deviation * math.sqrt(365 * 24)
            wanted = row["position_size"] * row["target_volatility"] / yearly if yearly else 0.0
            size = min(wanted, row["max_size"])
        stop = close[base] - side * max(row["stop_atr"] * reach[base], 0.002 * close[base])
        stopped = stopped or bool(side and (close[bar] - stop) * side <= 0.0)
        answers.append((0 if stopped else side, stop, size))
    return answers


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10_000), stop_atr=st.sampled_from([2.0, 6.0]))
def test_the_rule_bar_by_bar(make_market, seed, stop_atr):
    close = trending(seed)
    market = make_market(close[:, np.newaxis])
    strategy = build_strategy("momentum", {"stop_atr": stop_atr})
    found = strategy.analyze(market)
    reach = atr(market.high, market.low, market.close, 48)[:, 0]
    expected = told(close, reach, dict(strategy.get_parameters()))
    directions = [answer[0] for answer in expected]
    assert found.direction[:, 0].tolist() == directions
    active = np.flatnonzero(directions)
    assert found.stop_loss[active, 0] == pytest.approx([expected[bar][1] for bar in active])
    assert found.position_size[active, 0] == pytest.approx([expected[bar][2] for bar in active])
    assert np.isnan(found.take_profit).all()


def alternating(rise: float, bars: int = 1000, step: float = 0.01) -> np.ndarray:
    """Steps up and down in turn by `step`, around a log rise of `rise` a bar."""
    steps = step * np.where(np.arange(bars) % 2 == 0, 1.0, -1.0) + rise
    return 100.0 * np.exp(np.cumsum(steps))[:, np.newaxis]


@pytest.mark.parametrize(("rise", "expected"), [(0.0, 0), (0.0006, 1), (-0.0006, -1)])
def test_a_score_by_hand(make_market, rise, expected):
    """The deviation is the step of 1%; h bars of a rise r make r h / (0.01 sqrt(h)) of it."""
    found = build_strategy("momentum").analyze(make_market(alternating(rise)))
    parts = [min(1.0, abs(rise) / 0.01 * math.sqrt(24 * days)) for days in DAYS]
    score = math.copysign(sum(parts) / 4.0, rise)
    assert found.diagnostics["score"][-1, 0] == pytest.approx(score, abs=1e-9)
    assert found.direction[-1, 0] == expected
    assert found.confidence[-1, 0] == pytest.approx(abs(score), abs=1e-9)
    yearly = 0.01 * math.sqrt(365 * 24)
    assert found.diagnostics["volatility"][-1, 0] == pytest.approx(yearly)
    assert found.position_size[-1, 0] == pytest.approx(0.02 * 0.6 / yearly)


def test_a_jump_mutes_it(make_market):
    close = alternating(0.0006)
    close[-200:] /= 100.0
    found = build_strategy("momentum").analyze(make_market(close))
    assert found.direction[-201, 0] == 1
    assert found.position_size[-1, 0] < 0.002
    assert (found.stop_loss[found.direction != 0] > 0.0).all()


def test_a_state_does_not_flip_with_every_bar(make_market):
    close = np.column_stack([trending(seed) for seed in range(6)])
    found = build_strategy("momentum").analyze(make_market(close))
    state = found.direction[700:]
    changes = np.count_nonzero(np.diff(state, axis=0), axis=0)
    assert (state != 0).any(axis=0).all()
    assert (changes <= 40).all()  # of 800 bars
    sides = np.sign(found.diagnostics["score"][700:])
    assert np.count_nonzero(np.diff(sides, axis=0)) > changes.sum() / 2
