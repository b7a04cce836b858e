"""Breakouts worked by hand: a price that swung by 4, then by 1, and then leaves its range."""

import numpy as np
import pytest

from signals.registry import build_strategy

WIDE, NARROW = 500, 400
ATR = 25.0 / 24.0  # 24 ranges of 1, smoothed by one of 2


def swings(bars: int, reach: float) -> np.ndarray:
    """100 and above it in turn; the last is 100."""
    return 100.0 + reach * (np.arange(bars)[::-1] % 2)


@pytest.fixture
def say(make_market):
    """What the strategy says at the named closes, of which the market is calm before."""

    def analysed(*closes, quiet=True, **parameters):
        reaches = (4.0, 1.0) if quiet else (1.0, 4.0)
        bars = (WIDE, NARROW) if quiet else (WIDE + NARROW - 60, 60)
        close = np.concatenate([*map(swings, bars, reaches), closes])[:, np.newaxis]
        strategy = build_strategy("volatility_breakout", parameters)
        return strategy.analyze(make_market(close)).rows(WIDE + NARROW, len(close))

    return analysed


def states(analysis):
    return analysis.direction[:, 0].tolist()


def test_a_close_above_the_range_is_followed(say):
    found = say(102.0, 102.0)
    assert states(found) == [1, 1]
    assert found.diagnostics["range_high"][:, 0].tolist() == [101.0, 102.0]
    assert found.diagnostics["range_low"][:, 0].tolist() == [100.0, 100.0]
    assert found.diagnostics["atr"][0, 0] == pytest.approx(ATR, abs=1e-6)
    assert found.stop_loss[:, 0] == pytest.approx([102.0 - 3.0 * ATR] * 2, abs=1e-5)
    assert found.take_profit[:, 0] == pytest.approx([102.0 + 6.0 * ATR] * 2, abs=1e-5)
    assert (found.position_size == 0.02).all()


def test_a_close_below_the_range_is_followed(say):
    found = say(99.0)
    assert states(found) == [-1]
    assert found.diagnostics["atr"][0, 0] == pytest.approx(1.0, abs=1e-6)  # 1 as all before it
    assert found.stop_loss[0, 0] == pytest.approx(102.0, abs=1e-5)
    assert found.take_profit[0, 0] == pytest.approx(93.0, abs=1e-5)


def test_confidence_is_calm_before_and_the_size_of_the_breakout(say):
    calm = say(101.0).diagnostics["percentile"][0, 0]
    before = say(100.5, 102.0)
    percentile = before.diagnostics["percentile"][0, 0]
    beyond = (102.0 - 101.0) / before.diagnostics["atr"][1, 0]
    expected = 0.5 * (1.0 - percentile) + 0.5 * beyond / 3.0
    assert calm < 0.6
    assert states(before) == [0, 1]
    assert before.confidence[1, 0] == pytest.approx(expected)
    assert say(150.0).confidence[0, 0] >= 0.5 + 0.5 * (1.0 - calm) - 0.05


@pytest.mark.parametrize(("close", "expected"), [(101.0, 0), (101.2, 0), (101.3, 1)])
def test_a_breakout_is_beyond_by_a_quarter_of_the_range(say, close, expected):
    assert states(say(close)) == [expected]


def test_nothing_is_entered_out_of_a_wild_market(say):
    found = say(110.0, quiet=False)
    assert found.diagnostics["regime"][0, 0] == 2.0
    assert states(found) == [0]
    assert states(say(110.0, quiet=False, wild_percentile=1.0, calm_percentile=0.1)) == [0]


def test_regimes_are_named_by_the_percentile(say):
    assert say(100.2, calm_percentile=0.0).diagnostics["regime"][0, 0] == 1.0
    assert say(100.2, calm_percentile=0.7).diagnostics["regime"][0, 0] == 0.0
    leap = say(150.0)
    assert leap.diagnostics["regime"][0, 0] == 2.0  # which counts from the next bar on
    assert states(leap) == [1]


def test_it_is_left_behind_the_middle_of_the_range(say):
    # The range before the second bar is 100 to 102.
    assert states(say(102.0, 101.1)) == [1, 1]
    assert states(say(102.0, 100.9)) == [1, 0]


def test_it_is_left_at_the_stop(say):
    assert states(say(102.0, 101.5, stop_atr=0.5)) == [1, 1]
    assert states(say(102.0, 101.4, 101.9, stop_atr=0.5)) == [1, 0, 0]


def test_it_is_left_at_the_target(say):
    assert states(say(102.0, 108.2, 108.2)) == [1, 1, 1]
    assert states(say(102.0, 108.3, 108.2)) == [1, 0, 0]


def test_it_is_left_after_its_hold(say):
    assert states(say(*[102.0] * 50)) == [1] * 48 + [0] * 2
    assert states(say(*[102.0] * 5, hold_bars=3)) == [1, 1, 1, 0, 0]


def test_a_second_attempt_within_the_hold_is_not_taken(say):
    tired = [102.0, *[100.5] * 46, 104.0]
    assert states(say(*tired)) == [1] + [0] * 47
    rested = [102.0, *[100.5] * 48, 104.0]
    assert states(say(*rested)) == [1] + [0] * 48 + [1]


def test_a_breakout_to_the_other_side_turns_the_state(say):
    assert states(say(102.0, 97.0, stop_atr=50.0)) == [1, -1]


def test_a_stop_stays_above_zero_when_the_price_jumps(say):
    found = say(1.0)
    assert states(found) == [-1]
    assert found.stop_loss[0, 0] == pytest.approx(1.5)  # at most half of the price away
    assert found.take_profit[0, 0] == pytest.approx(0.5)
