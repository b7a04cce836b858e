"""What the strategies want in markets made for them, and the laws that hold for each."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import signals.strategies
from signals.driver import run_pinned
from signals.registry import STRATEGIES, UnknownStrategy, build_strategy

FIRST = datetime(2021, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
APRIL = 744
MAY = 744 + 720
NAMES = pytest.mark.parametrize("name", STRATEGIES)
COMPARING = {"multi_bucket", "ripple", "ether"}  # rules that look at several instruments at once
OUTPUTS = ("direction", "confidence", "stop_loss", "take_profit", "position_size")


def test_every_file_is_registered():
    files = {path.stem for path in Path(signals.strategies.__file__).parent.glob("[!_]*.py")}
    assert files == {kind.__module__.rpartition(".")[2] for kind in STRATEGIES.values()}


def test_an_unknown_strategy_names_the_known():
    with pytest.raises(UnknownStrategy, match="known: mean_reversion"):
        build_strategy("crystal_ball")


# -- Mean reversion ----------------------------------------------------------------------------


def crash(bars: int = 1500, at: int = 1480) -> np.ndarray:
    """A quiet price that falls 2% an hour for nine hours, then recovers 2% an hour."""
    noise = 0.0005 * np.random.default_rng(9).normal(size=bars)
    noise[at : at + 9] -= 0.02
    noise[at + 12 :] += 0.02
    return 100.0 * np.exp(np.cumsum(noise))[:, np.newaxis]


def test_mean_reversion_buys_a_crash_in_fear(make_market):
    vix = np.where(np.arange(1500) >= 1470, 30.0, 18.0)
    market = make_market(crash(), vix=vix)
    found = run_pinned(build_strategy("mean_reversion"), market, start=FIRST + 1470 * HOUR)
    state = found.direction[:, 0]
    entered = int(np.argmax(state))
    assert state[:entered].tolist() == [0] * entered
    assert 14 <= entered < 19  # the fall passes 10% in its sixth hour
    assert state[-1] == 0  # and RSI has recovered
    long = np.flatnonzero(state)
    entry_price = market.close[1470 + entered, 0]
    assert found.stop_loss[long, 0] == pytest.approx(entry_price * 0.95)
    assert found.take_profit[long, 0] == pytest.approx(entry_price * 1.10)
    assert (found.position_size[long, 0] == 0.025).all()
    assert (found.confidence[long, 0] == 1.0).all()  # the highest VIX of 30 days


@pytest.mark.parametrize("vix", [25.0, 18.0])
def test_mean_reversion_needs_fear(make_market, vix):
    market = make_market(crash(), vix=np.full(1500, vix))
    found = run_pinned(build_strategy("mean_reversion"), market, start=FIRST + 1470 * HOUR)
    assert not found.direction.any()


def test_mean_reversion_needs_a_fall(make_market):
    market = make_market(crash() ** 0.3, vix=np.full(1500, 30.0))
    found = run_pinned(build_strategy("mean_reversion"), market, start=FIRST + 1470 * HOUR)
    assert not found.direction.any()


def test_mean_reversion_gives_up_after_its_hold(make_market):
    close = crash()
    close[1489:] = close[1488] * np.exp(np.linspace(0.0, 0.0001, 11))[:, np.newaxis]
    market = make_market(close, vix=np.full(1500, 30.0))
    strategy = build_strategy("mean_reversion", {"hold_bars": 1, "rsi_oversold": 5.0})
    found = run_pinned(strategy, market, start=FIRST + 1470 * HOUR)
    oversold = found.diagnostics["rsi"][:, 0] < 5.0
    assert np.array_equal(found.direction[:, 0] == 1, oversold & (found.direction[:, 0] == 1))


# -- VIX correlation ---------------------------------------------------------------------------


def linked(sign: float, bars: int = 1700) -> tuple[np.ndarray, np.ndarray]:
    """A VIX that steps every day and a price that answers it within the day."""
    rng = np.random.default_rng(12)
    days = np.arange(bars) // 24
    steps = rng.normal(size=days[-1] + 1) * 0.05
    returns = sign * steps[days] / 24.0 + rng.normal(size=bars) * 0.0002
    vix = 20.0 * np.exp(np.cumsum(np.where(np.arange(bars) % 24 == 0, steps[days], 0.0)))
    return 100.0 * np.exp(np.cumsum(returns))[:, np.newaxis], vix


@pytest.mark.parametrize(("sign", "direction"), [(-0.8, 1), (0.8, -1)])
def test_vix_correlation_takes_the_side_of_the_link(make_market, sign, direction):
    close, vix = linked(sign)
    market = make_market(close, vix=vix)
    strategy = build_strategy("vix_correlation")
    found = run_pinned(strategy, market, start=FIRST + MAY * HOUR)
    active = found.direction[:, 0] != 0
    assert active.any()
    assert (found.direction[active, 0] == direction).all()
    correlation = found.diagnostics["correlation_30d"][active, 0]
    assert (np.abs(correlation) >= 0.5).all()
    assert (np.sign(correlation) == -direction).all()
    size = found.position_size[active, 0]
    assert size.max() <= 0.05
    assert size.min() > 0.0
    reach = found.take_profit[active, 0] - found.stop_loss[active, 0]
    assert (np.sign(reach) == direction).all()


def test_vix_correlation_keeps_its_stop_while_its_state_lasts(make_market):
    close, vix = linked(-0.8)
    found = run_pinned(
        build_strategy("vix_correlation"), make_market(close, vix=vix), start=FIRST + MAY * HOUR
    )
    state, stop = found.direction[:, 0], found.stop_loss[:, 0]
    lasting = (state[1:] == state[:-1]) & (state[1:] != 0)
    assert lasting.any()
    assert (stop[1:][lasting] == stop[:-1][lasting]).all()


def test_vix_correlation_is_flat_without_a_link(make_market):
    rng = np.random.default_rng(13)
    close = 100.0 * np.exp(np.cumsum(rng.normal(size=(1700, 1)) * 0.005, axis=0))
    _, vix = linked(1.0)
    found = run_pinned(
        build_strategy("vix_correlation"), make_market(close, vix=vix), start=FIRST + MAY * HOUR
    )
    assert not found.direction.any()


# -- Laws --------------------------------------------------------------------------------------


@NAMES
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 1699))
def test_a_row_depends_on_earlier_rows_only(random_market, name, seed, cut):
    market = random_market(seed=seed, bars=1700)
    strategy = build_strategy(name)
    whole, prefix = strategy.analyze(market), strategy.analyze(market.rows(0, cut))
    for output in OUTPUTS:
        assert np.array_equal(getattr(whole, output)[:cut], getattr(prefix, output), equal_nan=True)


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - COMPARING))
def test_an_instrument_does_not_depend_on_its_company(random_market, name):
    market = random_market(seed=3, bars=1700, columns=5)
    alone = dataclasses.replace(
        market,
        instruments=market.instruments[2:3],
        **{
            field: np.ascontiguousarray(getattr(market, field)[:, 2:3])
            for field in ("open", "high", "low", "close", "volume", "volume_source", "valid")
        },
    )
    strategy = build_strategy(name)
    start = FIRST + MAY * HOUR
    together = run_pinned(strategy, market, start=start)
    single = run_pinned(strategy, alone, start=start)
    for output in OUTPUTS:
        found = getattr(together, output)[:, 2:3]
        assert np.array_equal(found, getattr(single, output), equal_nan=True)


@NAMES
@pytest.mark.parametrize("price", [1e-8, 1.0, 1e7])
def test_a_constant_price_is_flat(make_market, name, price):
    market = make_market(np.full((1700, 1), price), vix=np.linspace(10.0, 60.0, 1700))
    found = run_pinned(build_strategy(name), market, start=FIRST + MAY * HOUR)
    assert not found.direction.any()


@pytest.mark.parametrize("name", [name for name in STRATEGIES if STRATEGIES[name].macro_series])
def test_no_vix_at_all_is_flat(make_market, name):
    market = make_market(crash(1700, 1650), vix=np.zeros(1700))
    market = dataclasses.replace(market, macro_known={"VIXCLS": np.zeros(1700, dtype=np.bool_)})
    found = run_pinned(build_strategy(name), market, start=FIRST + MAY * HOUR)
    assert not found.direction.any()


@NAMES
def test_a_coin_listed_yesterday_is_flat(make_market, name):
    market = make_market(crash(1700, 1680), vix=np.full(1700, 30.0))
    valid = market.valid.copy()
    valid[:1676] = False
    market = dataclasses.replace(market, valid=valid)
    found = run_pinned(build_strategy(name), market, start=FIRST + MAY * HOUR)
    assert not found.direction.any()


@NAMES
def test_one_bar_is_analysed(make_market, name):
    assert not build_strategy(name).analyze(make_market(np.ones((1, 2)))).direction.any()


@NAMES
def test_a_split_like_jump_breaks_nothing(random_market, name):
    market = random_market(seed=8, bars=1700)
    for field in ("open", "high", "low", "close"):
        getattr(market, field)[1600:] /= 100.0
    run_pinned(build_strategy(name), market, start=FIRST + MAY * HOUR)
