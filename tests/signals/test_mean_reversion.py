"""Mean reversion in small worlds: a price of 100 for days, and the closes named in each test."""

import numpy as np
import pytest

from signals.registry import build_strategy

QUIET = 400
FEAR = 30.0


@pytest.fixture
def say(make_market):
    """What the strategy says at the named closes after 400 bars of 100, from the 14-day high."""

    def analysed(*closes, vix=FEAR, **parameters):
        close = np.concatenate([np.full(QUIET, 100.0), closes])[:, np.newaxis]
        market = make_market(close, vix=np.full(len(close), vix))
        strategy = build_strategy("mean_reversion", parameters)
        return strategy.analyze(market).rows(QUIET, len(close))

    return analysed


def states(analysis):
    return analysis.direction[:, 0].tolist()


def test_a_fall_beyond_ten_percent_is_bought(say):
    found = say(95.0, 90.0, 89.0)
    assert states(found) == [0, 0, 1]  # a fall of exactly 10% is not beyond
    assert found.stop_loss[-1, 0] == pytest.approx(89.0 * 0.95)
    assert found.take_profit[-1, 0] == pytest.approx(89.0 * 1.10)
    assert found.position_size[-1, 0] == 0.025
    assert found.diagnostics["drawdown"][-1, 0] == pytest.approx(0.11)
    assert found.diagnostics["rsi"][-1, 0] == pytest.approx(0.0)


@pytest.mark.parametrize(("vix", "expected"), [(25.0, 0), (25.01, 1)])
def test_fear_is_a_vix_above_25(say, vix, expected):
    assert states(say(95.0, 89.0, vix=vix)) == [0, expected]


@pytest.mark.parametrize(("close", "expected"), [(86.0, 1), (85.01, 1), (84.9, 0), (60.0, 0)])
def test_nothing_is_entered_beyond_fifteen_percent(say, close, expected):
    assert states(say(close)) == [expected]


def test_after_the_pause_it_is_bought_again(say):
    assert states(say(84.0, 83.0, 85.5)) == [0, 0, 1]


def test_an_open_state_outlasts_the_pause_but_is_not_prolonged_by_it(say):
    found = say(89.0, 84.0, 84.0, 84.0, stop_distance=0.2, hold_bars=3)
    assert states(found) == [1, 1, 1, 0]
    assert found.stop_loss[2, 0] == pytest.approx(89.0 * 0.8)


def test_a_state_is_held_for_so_many_bars_after_the_last_oversold_one(say):
    # 89 is oversold and enters; at 90.5 the fall is less than 10% and RSI is about 12.
    assert states(say(89.0, 90.5, 90.5, 90.5, hold_bars=3)) == [1, 1, 1, 0]
    assert states(say(89.0, 89.0, 90.5, 90.5, 90.5, hold_bars=3)) == [1, 1, 1, 1, 0]


def test_it_is_left_when_rsi_has_recovered(say):
    found = say(89.0, 91.0, 93.0, 95.0, 97.0, hold_bars=48)
    strength = found.diagnostics["rsi"][:, 0]
    assert strength[-1] > 40.0
    left = say(89.0, 91.0, 93.0, 95.0, 97.0, hold_bars=48, rsi_exit=40.0)
    assert states(found) == [1] * 5
    assert states(left) == [int(value < 40.0) for value in strength]


def test_it_is_left_at_the_stop_and_not_entered_again_at_once(say):
    # The stop of 89 is 84.55; at 85.5 the market is oversold and its fall below 15% still.
    assert states(say(89.0, 84.56)) == [1, 1]
    assert states(say(89.0, 84.55, 85.5, 85.5)) == [1, 0, 0, 0]


def test_it_is_left_at_the_target(say):
    found = say(89.0, 93.0, 97.9, 97.9, rsi_exit=99.0)
    assert states(found) == [1, 1, 0, 0]


def test_confidence_is_the_percentile_of_the_vix_of_thirty_days(make_market):
    days = np.arange(40)
    daily = np.where(days == 39, 30.0, np.where(days % 3 == 0, 40.0, 20.0))
    close = np.full((40 * 24, 1), 100.0)
    close[-1] = 89.0
    found = build_strategy("mean_reversion").analyze(make_market(close, vix=np.repeat(daily, 24)))
    # Of the days 10 to 39 nine had 40 (12, 15, ... 36), so 21 of 30 were at or below 30.
    assert found.direction[-1, 0] == 1
    assert found.confidence[-1, 0] == pytest.approx(21 / 30)


def test_a_market_that_does_not_fall_is_left_alone(say):
    assert not any(states(say(99.0, 98.0, 97.0, 96.0, 95.0, 94.0, 93.0, 92.0, 91.0)))
