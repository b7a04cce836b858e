"""A coin that follows bitcoin: what the rule wants in worlds worked out by hand."""

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signals.driver import run_pinned
from signals.registry import PRESETS, build_strategy
from signals.strategy import MarketError

QUIET = 400
APRIL = datetime(2021, 4, 1, tzinfo=UTC)
BARS = 1000
BITCOIN, ETHEREUM, RIPPLE = 0, 1, 2
OUTPUTS = ("direction", "confidence", "stop_loss", "take_profit", "position_size")
PRICES = ("open", "high", "low", "close")
BOTH = pytest.mark.parametrize("name", ["ripple", "ether"])


def world(bitcoin: list[float], coin: list[float]) -> np.ndarray:
    """Hourly closes of bitcoin, ethereum and ripple: still at first, then by these log returns;
    ethereum and ripple move alike."""
    moves = np.zeros((QUIET + len(coin), 3))
    moves[QUIET:, BITCOIN] = bitcoin
    moves[QUIET:, ETHEREUM:] = np.array(coin)[:, np.newaxis]
    return 100.0 * np.exp(np.cumsum(moves, axis=0))


def since_quiet(analysis, column: int = RIPPLE) -> list[int]:
    return analysis.direction[QUIET:, column].tolist()


def rise(step: float, bars: int) -> list[float]:
    return [step] * bars


@pytest.mark.parametrize("side", [1, -1])
def test_it_follows_when_both_move(make_market, side):
    """0.4% an hour: the coin has moved 5% in its 13th hour, bitcoin 1.5% in its 4th."""
    close = world(rise(side * 0.004, 20), rise(side * 0.004, 20))
    found = build_strategy("ripple").analyze(make_market(close))
    assert since_quiet(found) == [0] * 12 + [side] * 8
    entry = close[QUIET + 12, RIPPLE]
    assert found.stop_loss[-1, RIPPLE] == pytest.approx(entry * (1.0 - side * 0.06))
    assert found.take_profit[-1, RIPPLE] == pytest.approx(entry * (1.0 + side * 0.12))
    assert found.position_size[-1, RIPPLE] == 0.02
    # 13 x 0.4% is 4% beyond the coin's threshold, and more than twice bitcoin's.
    assert found.confidence[QUIET + 12 :, RIPPLE] == pytest.approx(0.75 + 0.25 * 0.04)


def test_it_does_not_follow_a_bitcoin_that_stands_still(make_market):
    found = build_strategy("ripple").analyze(make_market(world(rise(0.0, 20), rise(0.004, 20))))
    assert not found.direction.any()


def test_it_does_not_follow_a_bitcoin_that_goes_the_other_way(make_market):
    found = build_strategy("ripple").analyze(make_market(world(rise(-0.004, 20), rise(0.004, 20))))
    assert not found.direction.any()


def test_the_coin_has_to_move_itself(make_market):
    found = build_strategy("ripple").analyze(make_market(world(rise(0.004, 20), rise(0.002, 20))))
    assert not found.direction.any()


def test_bars_of_samples_confirm_nothing(make_market):
    market = make_market(world(rise(0.004, 20), rise(0.004, 20)))
    source = market.volume_source.copy()
    source[:, RIPPLE] = 0
    found = build_strategy("ripple").analyze(dataclasses.replace(market, volume_source=source))
    assert not found.diagnostics["pattern"][:, RIPPLE].any()
    assert not found.direction[:, RIPPLE].any()


def test_a_pattern_confirms_for_its_bars_only(make_market):
    """One leap out of the range, and then nothing new: confirmed for two bars, then not."""
    parameters = {"momentum_threshold": 0.05, "leader_threshold": 0.015, "confirm_bars": 2}
    coin = [0.06, *rise(0.0, 10)]
    early = world([0.0, 0.02, *rise(0.0, 9)], coin)
    late = world([0.0, 0.0, 0.02, *rise(0.0, 8)], coin)
    strategy = build_strategy("ripple", parameters)
    assert since_quiet(strategy.analyze(make_market(early)))[:4] == [0, 1, 1, 1]
    assert not any(since_quiet(strategy.analyze(make_market(late))))


def test_it_leaves_when_bitcoin_turns(make_market):
    bitcoin = [*rise(0.004, 16), *rise(-0.016, 4)]
    found = build_strategy("ripple").analyze(make_market(world(bitcoin, rise(0.004, 20))))
    # 16 x 0.4% is lost in four hours of 1.6%.
    assert since_quiet(found) == [0] * 12 + [1] * 7 + [0]


@pytest.mark.parametrize(("fall", "after"), [(0.05, 1), (0.07, 0)])
def test_it_leaves_with_a_close_beyond_its_stop(make_market, fall, after):
    """Entered after a leap of 10%; the stop lies 6% below, where the momentum is still positive."""
    close = world([0.02, *rise(0.0, 5)], [0.10, -fall, *rise(0.0, 4)])
    found = build_strategy("ripple").analyze(make_market(close))
    assert since_quiet(found) == [1] + [after] * 5


def test_it_leaves_after_its_hold(make_market):
    strategy = build_strategy("ripple", {"hold_bars": 5, "target_distance": 0.5})
    found = strategy.analyze(make_market(world(rise(0.004, 30), rise(0.004, 30))))
    assert since_quiet(found) == [0] * 12 + [1] * 5 + [0] * 13


def test_the_rule_is_one_and_the_presets_are_two(make_market):
    market = make_market(world(rise(0.004, 20), rise(0.004, 20)))
    ripple, ether = build_strategy("ripple"), build_strategy("ether")
    assert ripple.get_parameters() != ether.get_parameters()
    assert PRESETS["ripple"].assets == ("ripple",)
    assert PRESETS["ether"].assets == ("ethereum",)
    found = build_strategy("ether", ripple.get_parameters()).analyze(market)
    assert np.array_equal(found.direction, ripple.analyze(market).direction)
    assert since_quiet(ether.analyze(market), ETHEREUM) == [0] * 8 + [1] * 12  # 3.5% in 9 hours


# -- Bad input ---------------------------------------------------------------------------------


@BOTH
def test_without_bitcoin_it_cannot_run(make_market, name):
    market = dataclasses.replace(make_market(np.ones((9, 1))), instruments=("ripple",))
    with pytest.raises(MarketError, match="bitcoin is not among"):
        build_strategy(name).analyze(market)


@BOTH
def test_bitcoin_itself_is_flat(random_market, name):
    found = build_strategy(name).analyze(random_market(seed=31, bars=BARS, columns=3))
    assert not found.direction[:, BITCOIN].any()
    assert (found.direction[:, ETHEREUM] == 1).any()
    assert (found.direction[:, RIPPLE] == -1).any()


def test_holes_in_bitcoin_are_flat_with_the_reason(make_market):
    market = make_market(world(rise(0.004, 30), rise(0.004, 30)))
    valid = market.valid.copy()
    valid[QUIET + 15, BITCOIN] = False
    strategy = build_strategy("ripple")
    found = strategy.analyze(dataclasses.replace(market, valid=valid))
    assert since_quiet(found)[12:18] == [1, 1, 1, 0, 0, 0]  # and no entry in an old move
    assert found.diagnostics["leader_known"][QUIET + 14 : QUIET + 17, 0].tolist() == [1, 0, 1]
    valid[QUIET - 10 : QUIET, BITCOIN] = False
    found = strategy.analyze(dataclasses.replace(market, valid=valid))
    assert not found.direction.any()
    assert not found.diagnostics["leader_known"][QUIET:].any()


@BOTH
@pytest.mark.parametrize("price", [1e-8, 1.0, 1e7])
def test_a_price_of_any_size(random_market, name, price):
    market = random_market(seed=32, bars=BARS, columns=3)
    scaled = dataclasses.replace(
        market, **{each: getattr(market, each) * (price / 100.0) for each in PRICES}
    )
    found = run_pinned(build_strategy(name), scaled, start=APRIL)
    assert (found.direction != 0).any()
    constant = dataclasses.replace(
        market, **{each: np.full_like(market.close, price) for each in PRICES}
    )
    assert not run_pinned(build_strategy(name), constant, start=APRIL).direction.any()


@BOTH
@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_a_split_like_jump_breaks_nothing(random_market, name, factor):
    market = random_market(seed=33, bars=BARS, columns=3)
    for each in PRICES:
        getattr(market, each)[800:, RIPPLE] *= factor
    run_pinned(build_strategy(name), market, start=APRIL)


@BOTH
def test_a_coin_listed_yesterday_is_flat(random_market, name):
    market = random_market(seed=34, bars=BARS, columns=3)
    market.valid[: BARS - 24, ETHEREUM:] = False
    found = run_pinned(build_strategy(name), market, start=APRIL)
    assert not found.direction.any()


# -- Laws --------------------------------------------------------------------------------------


@BOTH
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 1000), cut=st.integers(1, BARS))
def test_a_row_depends_on_earlier_rows_only(random_market, name, seed, cut):
    market = random_market(seed=seed, bars=BARS, columns=3)
    strategy = build_strategy(name)
    whole, prefix = strategy.analyze(market), strategy.analyze(market.rows(0, cut))
    for output in OUTPUTS:
        assert np.array_equal(getattr(whole, output)[:cut], getattr(prefix, output), equal_nan=True)
    for each, values in whole.diagnostics.items():
        assert np.array_equal(values[:cut], prefix.diagnostics[each])


@BOTH
def test_a_coin_depends_on_itself_and_bitcoin_only(random_market, name):
    market = random_market(seed=35, bars=BARS, columns=6)
    kept = [RIPPLE, BITCOIN]
    pair = dataclasses.replace(
        market,
        instruments=("ripple", "bitcoin"),
        **{
            each: np.ascontiguousarray(getattr(market, each)[:, kept])
            for each in (*PRICES, "volume", "volume_source", "valid")
        },
    )
    strategy = build_strategy(name)
    together, alone = strategy.analyze(market), strategy.analyze(pair)
    assert together.direction[:, RIPPLE].any()
    for output in OUTPUTS:
        expected = getattr(together, output)[:, kept]
        assert np.array_equal(getattr(alone, output), expected, equal_nan=True)
