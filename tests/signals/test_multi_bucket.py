"""The daily portfolio of ranked instruments: what it wants in worlds worked out by hand."""

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signals.driver import run_pinned
from signals.registry import PRESETS, build_strategy

FIRST = datetime(2021, 3, 1, tzinfo=UTC)  # a Monday
MAY = datetime(2021, 5, 1, tzinfo=UTC)
BARS = 2000
COLUMNS = ("open", "high", "low", "close", "volume", "volume_source", "valid")
OUTPUTS = ("direction", "confidence", "stop_loss", "position_size")
FUNCTION_SCOPED = [HealthCheck.function_scoped_fixture]
MOMENTUM_ALONE = {
    "momentum_share": 1.0,
    "residual_share": 0.0,
    "reversion_share": 0.0,
    "weighting": 0,
    "weight_cap": 1.0,
}


def daily(returns: np.ndarray) -> np.ndarray:
    """Hourly closes that move once a day, in its last hour: 100 at first, then by `returns`."""
    days = 100.0 * np.cumprod(np.vstack([np.ones_like(returns[:1]), 1.0 + returns]), axis=0)
    return np.repeat(days, 24, axis=0)[1:]


def drifting(drifts: list[float], swing: float = 0.02, days: int = 60) -> np.ndarray:
    """Instruments of equal deviation: each goes up and down by `swing` around its own drift."""
    sign = np.where(np.arange(days) % 2 == 0, 1.0, -1.0)[:, np.newaxis]
    return daily(np.array(drifts) + swing * sign)


def last(analysis, output: str) -> np.ndarray:
    values = analysis.diagnostics if output in analysis.diagnostics else vars(analysis)
    return values[output][-1]


def test_the_strongest_is_long_and_the_weakest_short(make_market):
    market = make_market(drifting([0.002, 0.004, -0.004, -0.001]))
    strategy = build_strategy("multi_bucket", MOMENTUM_ALONE)
    found = strategy.analyze(market)
    assert last(found, "direction").tolist() == [0, 1, -1, 0]
    assert last(found, "momentum") == pytest.approx([1 / 3, 1.0, -1.0, -1 / 3])
    assert last(found, "weight") == pytest.approx([0.0, 0.5, -0.5, 0.0])
    assert last(found, "position_size") == pytest.approx([0.0, 0.1, 0.1, 0.0])
    assert last(found, "confidence").tolist() == [0.0, 1.0, 1.0, 0.0]
    assert np.isnan(found.take_profit).all()


def test_the_calmer_of_two_gets_more(make_market):
    sign = np.where(np.arange(60) % 2 == 0, 1.0, -1.0)[:, np.newaxis]
    returns = np.array([0.002, 0.004, -0.004, -0.001]) + sign * [0.02, 0.01, 0.03, 0.02]
    found = build_strategy("multi_bucket", MOMENTUM_ALONE).analyze(make_market(daily(returns)))
    assert last(found, "weight") == pytest.approx([0.0, 0.75, -0.25, 0.0])


def test_the_cap_holds_and_the_rest_is_not_invested(make_market):
    parameters = {**MOMENTUM_ALONE, "weight_cap": 0.3, "gross_budget": 0.5}
    market = make_market(drifting([0.002, 0.004, -0.004, -0.001]))
    found = build_strategy("multi_bucket", parameters).analyze(market)
    assert last(found, "position_size") == pytest.approx([0.0, 0.15, 0.15, 0.0])


def test_yesterdays_winner_is_sold_by_reversion(make_market):
    returns = np.zeros((60, 4)) + np.where(np.arange(60) % 2 == 0, 0.02, -0.02)[:, np.newaxis]
    returns[58, 2] += 0.05  # one of the two days that are ranked
    returns[58, 0] -= 0.05
    parameters = {**MOMENTUM_ALONE, "momentum_share": 0.0, "reversion_share": 1.0}
    found = build_strategy("multi_bucket", parameters).analyze(make_market(daily(returns)))
    assert last(found, "direction").tolist() == [1, 0, -1, 0]


def test_a_high_beta_is_momentum_but_not_residual_momentum(make_market):
    """In a rising market the steepest follower leads the one rank and not the other."""
    rng = np.random.default_rng(11)
    market = 0.02 + 0.02 * rng.normal(size=(60, 1))
    returns = market * np.array([2.0, 1.0, 0.6, 0.4]) + 0.0005 * rng.normal(size=(60, 4))
    returns[42:58, 3] += 0.004  # a rise of its own in the days that are ranked
    found = build_strategy("multi_bucket").analyze(make_market(daily(returns)))
    assert np.argmax(last(found, "momentum")) == 0
    assert np.argmax(last(found, "residual_momentum")) == 3


def test_buckets_that_disagree_cancel(make_market):
    """What rose most and still does is wanted by momentum as much as reversion rejects it."""
    parameters = {"momentum_share": 0.5, "residual_share": 0.0, "reversion_share": 0.5}
    market = make_market(drifting([0.002, 0.004, -0.004, -0.001]))
    found = build_strategy("multi_bucket", parameters).analyze(market)
    assert not found.direction.any()


def test_it_decides_at_midnight_and_holds(random_market):
    market = random_market(seed=21, bars=BARS, columns=6)
    found = build_strategy("multi_bucket").analyze(market)
    hours = market.open_time // 3_600_000 % 24
    for output in OUTPUTS:
        values = np.nan_to_num(getattr(found, output))
        changed = np.flatnonzero((values[1:] != values[:-1]).any(axis=1)) + 1
        assert len(changed) > 10
        assert (hours[changed] == 23).all()


def test_the_stop_is_set_at_entry_and_anew_on_mondays(make_market):
    market = make_market(drifting([0.002, 0.004, -0.004, -0.001], days=80))
    found = build_strategy("multi_bucket", MOMENTUM_ALONE).analyze(market)
    stop = found.stop_loss[:, 1]
    changed = np.flatnonzero(np.diff(stop)) + 1
    assert {(bar + 1) // 24 % 7 for bar in changed[1:]} == {0}
    assert len(changed) > 5
    bar = changed[-1]
    swings = (
        np.diff(market.close[bar - 30 * 24 : bar + 1 : 24, 1])
        / (market.close[bar - 30 * 24 : bar : 24, 1])
    )
    distance = 3.0 * swings.std(ddof=1)
    assert stop[bar] == pytest.approx(market.close[bar, 1] * (1.0 - distance))
    assert found.stop_loss[bar, 2] > market.close[bar, 2]


@pytest.mark.parametrize("weighting", [0, 1])
def test_the_budget_is_kept(random_market, weighting):
    parameters = {"weighting": weighting, "gross_budget": 0.4, "weight_cap": 0.25}
    market = random_market(seed=22, bars=BARS, columns=12)
    found = build_strategy("multi_bucket", parameters).analyze(market)
    gross = found.position_size.sum(axis=1)
    active = (found.direction != 0).any(axis=1)
    assert active.mean() > 0.3
    assert gross.max() <= 0.4 + 1e-12
    assert gross[active] == pytest.approx(np.full(active.sum(), 0.4))
    assert found.position_size.max() <= 0.1 + 1e-12
    assert (found.confidence[found.direction != 0] >= 0.5).all()


# -- Who takes part ----------------------------------------------------------------------------


def test_too_few_instruments_are_all_flat_with_the_reason(random_market):
    found = build_strategy("multi_bucket").analyze(random_market(seed=23, bars=BARS, columns=3))
    assert not found.direction.any()
    assert last(found, "usable").tolist() == [3.0] * 3
    assert last(found, "takes_part").tolist() == [1.0] * 3


def without(market, column: int, bars: slice):
    """The market with a column's bars missing: carried forward, or back to its first."""
    valid = market.valid.copy()
    valid[bars, column] = False
    changed = {"valid": valid}
    for name in ("open", "high", "low", "close"):
        values = getattr(market, name).copy()
        anchor = bars.start - 1 if bars.start else bars.stop
        values[bars, column] = market.close[anchor, column]
        changed[name] = values
    return dataclasses.replace(market, **changed)


@pytest.mark.parametrize(
    "missing",
    [
        slice(0, BARS - 24),  # listed yesterday
        slice(0, BARS - 30 * 24),  # a day short of the window
        slice(BARS - 200, BARS - 180),  # holes: 20 of 744 bars
        slice(BARS - 12, BARS - 7),  # the bar of the last decision (2000 is 83 days and 8 hours)
    ],
)
def test_an_instrument_without_a_whole_window_takes_no_part(random_market, missing):
    market = random_market(seed=24, bars=BARS, columns=6)
    market = dataclasses.replace(market, valid=np.ones_like(market.valid))
    strategy = build_strategy("multi_bucket")
    assert last(strategy.analyze(market), "takes_part")[2] == 1.0
    found = strategy.analyze(without(market, 2, missing))
    assert last(found, "takes_part").tolist() == [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    assert last(found, "usable").tolist() == [5.0] * 6
    assert last(found, "direction")[2] == 0
    assert last(found, "direction").any()


def test_what_takes_no_part_changes_nothing_for_the_others(random_market):
    market = random_market(seed=25, bars=BARS, columns=6)
    kept = [0, 1, 3, 4, 5]
    fewer = dataclasses.replace(
        market,
        instruments=tuple(market.instruments[column] for column in kept),
        **{name: getattr(market, name)[:, kept] for name in COLUMNS},
    )
    strategy = build_strategy("multi_bucket")
    found = strategy.analyze(without(market, 2, slice(0, BARS - 24)))
    alone = strategy.analyze(fewer)
    since = BARS - 24 - 40 * 24  # before that it is only not listed in the window's eyes
    for output in OUTPUTS:
        assert np.array_equal(
            getattr(found, output)[since:, kept], getattr(alone, output)[since:], equal_nan=True
        )


@pytest.mark.parametrize("factor", [100.0, 0.01, 10.0])
def test_a_split_takes_no_part_until_it_has_left_the_window(random_market, factor):
    market = random_market(seed=26, bars=BARS, columns=6)
    jumped = BARS - 600
    for name in ("open", "high", "low", "close"):
        getattr(market, name)[jumped:, 1] *= factor
    found = run_pinned(build_strategy("multi_bucket"), market, start=MAY)
    takes_part = found.diagnostics["takes_part"][:, 1]
    first = BARS - len(takes_part)
    assert not takes_part[jumped + 24 - first :].any()
    assert found.direction.any()


@pytest.mark.parametrize("price", [1e-8, 1.0, 1e7])
def test_a_constant_price_takes_no_part(random_market, price):
    market = random_market(seed=27, bars=BARS, columns=5)
    for name in ("open", "high", "low", "close"):
        getattr(market, name)[:, 4] = price
    found = run_pinned(build_strategy("multi_bucket"), market, start=MAY)
    assert not found.diagnostics["takes_part"][:, 4].any()
    assert found.direction[:, :4].any()
    assert not found.direction[:, 4].any()


@pytest.mark.parametrize("bars", [1, 23, 24, 25, 31 * 24 - 1])
def test_less_than_a_window_is_flat(random_market, bars):
    found = build_strategy("multi_bucket").analyze(random_market(seed=28, bars=bars, columns=5))
    assert found.direction.shape == (bars, 5)
    assert not found.direction.any()


# -- Laws --------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None, suppress_health_check=FUNCTION_SCOPED)
@given(seed=st.integers(0, 1000), cut=st.integers(1, BARS), weighting=st.integers(0, 1))
def test_a_row_depends_on_earlier_rows_only(random_market, seed, cut, weighting):
    market = random_market(seed=seed, bars=BARS, columns=7)
    strategy = build_strategy("multi_bucket", {"weighting": weighting})
    whole, prefix = strategy.analyze(market), strategy.analyze(market.rows(0, cut))
    for output in OUTPUTS:
        assert np.array_equal(getattr(whole, output)[:cut], getattr(prefix, output), equal_nan=True)
    for name, values in whole.diagnostics.items():
        assert np.array_equal(values[:cut], prefix.diagnostics[name])


def test_a_row_depends_on_its_lookback_only(random_market):
    market = random_market(seed=29, bars=BARS, columns=7)
    strategy = build_strategy("multi_bucket")
    whole = strategy.analyze(market)
    assert whole.direction[-40:].any()
    for row in range(BARS - 40, BARS):
        part = strategy.analyze(market.rows(row - strategy.lookback, row + 1))
        for output in OUTPUTS:
            expected = getattr(whole, output)[row]
            assert np.array_equal(getattr(part, output)[-1], expected, equal_nan=True)


@settings(max_examples=10, deadline=None, suppress_health_check=FUNCTION_SCOPED)
@given(seed=st.integers(0, 1000), random=st.randoms(use_true_random=False))
def test_the_order_of_the_columns_changes_no_bit(random_market, seed, random):
    market = random_market(seed=seed, bars=1200, columns=7)
    order = list(range(7))
    random.shuffle(order)
    shuffled = dataclasses.replace(
        market,
        instruments=tuple(market.instruments[column] for column in order),
        **{name: getattr(market, name)[:, order] for name in COLUMNS},
    )
    strategy = build_strategy("multi_bucket")
    given_order, found = strategy.analyze(market), strategy.analyze(shuffled)
    for output in OUTPUTS:
        expected = getattr(given_order, output)[:, order]
        assert np.array_equal(getattr(found, output), expected, equal_nan=True)


def test_equal_instruments_are_told_apart_by_name(make_market):
    close = drifting([0.001] * 8)
    found = build_strategy("multi_bucket", MOMENTUM_ALONE).analyze(make_market(close))
    names = make_market(close).instruments
    wanted = dict(zip(names, last(found, "direction").tolist(), strict=True))
    assert [wanted[name] for name in sorted(names)] == [-1, -1, 0, 0, 0, 0, 1, 1]


@settings(max_examples=10, deadline=None, suppress_health_check=FUNCTION_SCOPED)
@given(seed=st.integers(0, 1000), powers=st.lists(st.integers(-20, 20), min_size=5, max_size=5))
def test_the_scale_of_prices_changes_nothing(random_market, seed, powers):
    """Powers of two, which double precision multiplies by without rounding."""
    market = random_market(seed=seed, bars=1200, columns=5)
    factor = 2.0 ** np.array(powers)
    scaled = dataclasses.replace(
        market,
        **{name: getattr(market, name) * factor for name in ("open", "high", "low", "close")},
    )
    strategy = build_strategy("multi_bucket")
    found, expected = strategy.analyze(scaled), strategy.analyze(market)
    assert np.array_equal(found.direction, expected.direction)
    assert np.array_equal(found.position_size, expected.position_size)
    assert np.array_equal(found.stop_loss, expected.stop_loss * factor)


def test_its_preset_speaks_of_all_instruments():
    assert PRESETS["multi_bucket"].assets == ()
