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
COMPARING = {name for name, kind in STRATEGIES.items() if kind.compares}
SCALE_FREE = ("mean_reversion", "momentum", "vix_correlation", "volatility_breakout")
OUTPUTS = ("direction", "confidence", "stop_loss", "take_profit", "position_size")


def test_every_file_is_registered():
    files = {path.stem for path in Path(signals.strategies.__file__).parent.glob("[!_]*.py")}
    assert files == {kind.__module__.rpartition(".")[2] for kind in STRATEGIES.values()}


def test_an_unknown_strategy_names_the_known():
    with pytest.raises(UnknownStrategy, match="known: mean_reversion"):
        build_strategy("crystal_ball")


def crash(bars: int = 1500, at: int = 1480) -> np.ndarray:
    """A quiet price that falls 2% an hour for nine hours, then recovers 2% an hour."""
    noise = 0.0005 * np.random.default_rng(9).normal(size=bars)
    noise[at : at + 9] -= 0.02
    noise[at + 12 :] += 0.02
    return 100.0 * np.exp(np.cumsum(noise))[:, np.newaxis]


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


@pytest.mark.parametrize("name", SCALE_FREE)
@pytest.mark.parametrize("power", [-33, 17])  # prices of about 1e-8 and 1e7
def test_the_size_of_a_price_says_nothing(random_market, name, power):
    market = random_market(seed=6, bars=1700)
    prices = {field: getattr(market, field) for field in ("open", "high", "low", "close")}
    scaled = dataclasses.replace(
        market, **{field: values * 2.0**power for field, values in prices.items()}
    )
    strategy = build_strategy(name)
    usual, other = strategy.analyze(market), strategy.analyze(scaled)
    assert usual.direction.any()
    assert np.array_equal(usual.direction, other.direction)
    active = usual.direction != 0
    assert other.stop_loss[active] == pytest.approx(usual.stop_loss[active] * 2.0**power)
    assert other.confidence[active] == pytest.approx(usual.confidence[active], abs=1e-9)


@pytest.mark.parametrize("name", SCALE_FREE)
@pytest.mark.parametrize("seed", range(4))
def test_a_state_does_not_depend_on_where_its_history_began(random_market, name, seed):
    """No state is older than the lookback: the drivers' pins may fall where they like."""
    market = random_market(seed=seed, bars=1700, columns=4)
    strategy = build_strategy(name)
    early, late = strategy.analyze(market), strategy.analyze(market.rows(250, 1700))
    settled = 250 + strategy.lookback
    expected, found = early.direction[settled:], late.direction[settled - 250 :]
    assert np.array_equal(expected, found)
    active = found != 0
    assert late.stop_loss[settled - 250 :][active] == pytest.approx(
        early.stop_loss[settled:][active], rel=1e-6
    )


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
