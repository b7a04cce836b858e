"""The scalar functions compile with Numba and then give the same bits as plain Python."""

import math
import types
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from risk import assessment, facts, limits, sizing
from risk.declarations import limits_from
from risk.portfolio import Standing, loss_fraction
from trading import accounting, depth, protection, simulator, slippage, ticks
from trading.orders import Grid

SCALAR_MODULES = (
    facts,
    limits,
    sizing,
    assessment,
    accounting,
    ticks,
    depth,
    slippage,
    simulator,
    protection,
)
# For people or for text: what never runs inside a loop over bars.
NOT_SCALAR = {"risk_level", "facts_at", "returns_at"}


def _compiled() -> dict[str, Callable[..., Any]]:
    """Every scalar function compiled, calling its compiled fellows."""
    compiled: dict[str, Any] = {}
    scopes = []
    functions = [
        function
        for module in SCALAR_MODULES
        for function in vars(module).values()
        if isinstance(function, types.FunctionType) and function.__module__ == module.__name__
    ]
    for function in [loss_fraction, *functions]:
        if function.__name__ in NOT_SCALAR:
            continue
        scopes.append(dict(function.__globals__))
        copy = types.FunctionType(function.__code__, scopes[-1], function.__name__)
        compiled[function.__name__] = numba.njit(copy)
    # Each is compiled when it is first called: all know their fellows by then, in any order.
    for names in scopes:
        names.update(compiled)
    return compiled


COMPILED = _compiled()
GRID = Grid.of("0.01", "0.001")
FINITE = st.floats(1e-6, 1e7)
MAYBE = st.one_of(st.just(math.nan), FINITE)
SHARE = st.one_of(st.just(math.nan), st.floats(0.0, 0.5))
STEPS = st.integers(-1_000_000, 1_000_000)
TICKS = st.integers(1, 1_000_000)
SIDE = st.sampled_from([1, -1])
# Around the same price, so that orders and markets meet.
PRICE = st.one_of(st.integers(950, 1_050).map(lambda cents: cents / 100), st.floats(9.5, 10.5))
LEVEL = st.one_of(st.just(0), st.integers(950, 1_050))
KINDS = (
    simulator.MARKET,
    simulator.LIMIT,
    simulator.STOP,
    simulator.STOP_LIMIT,
    simulator.TRAILING_STOP,
)
TICK = st.sampled_from([(1, 10), (1, 100), (1, 2), (5, 1), (1, 100_000)])


def bits(value: Any) -> Any:
    """A value that equals another only when every bit does (NaN equals NaN)."""
    if isinstance(value, np.ndarray):
        value = tuple(value.tolist())
    if isinstance(value, tuple):
        return tuple(bits(part) for part in value)
    return value.hex() if isinstance(value, float) else int(value)


def same(name: str, plain: Callable[..., Any], *arguments: Any) -> None:
    assert bits(plain(*arguments)) == bits(COMPILED[name](*arguments)), name


@settings(deadline=None)
@given(quantity=STEPS, cost=st.integers(-(10**15), 10**15), steps=STEPS, ticks=TICKS)
def test_accounting(quantity: int, cost: int, steps: int, ticks: int) -> None:
    for unit in ((1, 1), (10_000, 1), (1, 100)):
        same("apply_fill", accounting.apply_fill, quantity, cost, steps, ticks, *unit)
        same("unrealised", accounting.unrealised, quantity, cost, ticks, *unit)
        same("notional", accounting.notional, steps, ticks, *unit)
    same("fee", accounting.fee, cost, 500)
    same("maintenance_margin", accounting.maintenance_margin, cost, 4_000)
    same("is_liquidated", accounting.is_liquidated, cost, quantity)
    same("slippage_cost", accounting.slippage_cost, steps, ticks, 1_000, 10_000, 1)
    same("roll_marks", accounting.roll_marks, cost, 3, quantity, steps, 2)


@settings(deadline=None)
@given(
    quantity=STEPS,
    mark=st.integers(1, 10**13),
    rate=st.integers(-4_000_000, 4_000_000),
    step=st.sampled_from([(1, 1), (1, 1000), (10, 1), (5, 100)]),
    value=st.floats(-1.0, 1e6),
)
def test_funding(quantity: int, mark: int, rate: int, step: tuple[int, int], value: float) -> None:
    # Of a notional that the books can count.
    assume((abs(quantity) * step[0] // step[1] + 1) * mark <= accounting.MAX_COUNT)
    same("funding_cash", accounting.funding_cash, quantity, mark, rate, *step)
    same("count_of", accounting.count_of, value, accounting.PRICE_PARTS)


@settings(deadline=None)
@given(
    side=SIDE, tick=TICK, prices=st.tuples(FINITE, FINITE, FINITE, FINITE), stop=MAYBE, target=MAYBE
)
def test_simulator(
    side: int,
    tick: tuple[int, int],
    prices: tuple[float, float, float, float],
    stop: float,
    target: float,
) -> None:
    low, open_price, close, high = sorted(prices)
    same("nearest_ticks", ticks.nearest_ticks, close, *tick)
    same("market_fill_ticks", simulator.market_fill_ticks, side, low, high, 1.0, *tick)
    same(
        "protective_exit",
        protection.protective_exit,
        *(side, 1_000, stop, target, open_price, high, low, 1.0, GRID),
    )
    same("level_ticks", ticks.level_ticks, stop, *tick)
    same("shown_steps", ticks.shown_steps, stop, *tick)
    same("expected_slippage_bps", slippage.expected_slippage_bps, 1.0, stop / 1e8, high, target)


@settings(deadline=None)
@given(
    order=st.builds(
        simulator.WorkingOrder,
        kind=st.sampled_from(KINDS),
        side=SIDE,
        remaining_steps=st.integers(0, 1_000),
        limit_ticks=LEVEL,
        trigger_ticks=LEVEL,
        trail_ticks=st.integers(1, 30),
        watermark_ticks=LEVEL,
        is_triggered=st.booleans(),
    ),
    prices=st.lists(PRICE, min_size=3, max_size=3),
    shown=st.lists(st.one_of(st.just(math.nan), st.floats(0.0, 1.0)), min_size=3, max_size=3),
    bps=st.floats(0.0, 500.0),
)
def test_matching(
    order: simulator.WorkingOrder, prices: list[float], shown: list[float], bps: float
) -> None:
    low, middle, high = sorted(prices)
    touch = simulator.Touch(low, shown[0], high, shown[1])
    same("match_quote", simulator.match_quote, order, touch, bps, GRID)
    same("match_bar", simulator.match_bar, order, middle, high, low, bps, GRID)
    levels = sorted(prices, reverse=order.side < 0)
    book = (np.array(levels), np.array(shown))
    same("match_book", simulator.match_book, order, *book, bps, GRID)
    same("sweep_levels", depth.sweep_levels, order.side, 500, *book, order.limit_ticks, GRID)
    same("meets_minimum", simulator.meets_minimum, 1_000, order.limit_ticks, 5.0, False, GRID)
    same("is_reachable", simulator.is_reachable, 1_000, order.trail_ticks, 1_015)


@settings(deadline=None)
@given(
    request=st.builds(
        assessment.Request,
        direction=SIDE,
        confidence=st.floats(0.0, 1.0),
        price=FINITE,
        stop_loss=MAYBE,
        take_profit=MAYBE,
        proposed_size=st.one_of(st.just(math.nan), st.floats(0.0, 1.0)),
        step_notional=st.one_of(st.just(0.0), FINITE),
        min_notional=st.floats(0.0, 100.0),
    ),
    standing=st.builds(
        Standing,
        equity=st.one_of(st.just(math.nan), st.floats(-1e5, 1e7)),
        gross_exposure=st.floats(0.0, 1e6),
        instrument_exposure=st.floats(0.0, 1e5),
        sector_exposure=st.floats(0.0, 1e5),
        open_risk=st.floats(0.0, 1e5),
        open_positions=st.integers(0, 20),
        high_water_mark=st.floats(0.0, 1e7),
        day_start_equity=st.floats(0.0, 1e7),
        volatility_24h=SHARE,
        daily_volatility=SHARE,
        quote_volume_24h=MAYBE,
        correlation=st.one_of(st.just(math.nan), st.floats(-1.0, 1.0)),
        held_risk=MAYBE,
        trades=st.integers(40, 80),
        wins=st.integers(0, 40),
        won=st.floats(0.0, 1e5),
        lost=st.floats(0.0, 1e5),
    ),
    state=st.integers(0, 2),
)
def test_verdicts(request: assessment.Request, standing: Standing, state: int) -> None:
    bounds = limits_from({}, trading_state=state)
    same("decide", assessment.decide, request, standing, bounds)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), stop=st.integers(0, 80), holes=st.floats(0.0, 0.7))
def test_facts(seed: int, stop: int, holes: float) -> None:
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, 72)))
    valid = rng.random(72) >= holes
    volume = np.where(valid, rng.uniform(0.0, 1e6, 72), math.nan)
    same("hourly_volatility", facts.hourly_volatility, close, valid, stop)
    same("traded_volume", facts.traded_volume, volume, stop)
    same("daily_closes", facts.daily_closes, close, valid, stop, 3)
    returns = facts.daily_returns(np.where(valid, close, math.nan))
    same("daily_returns", facts.daily_returns, np.where(valid, close, math.nan))
    same("daily_volatility", facts.daily_volatility, returns)
    same("pair_correlation", facts.pair_correlation, returns, rng.normal(size=71))


def test_a_loop_over_bars_compiles() -> None:
    """The functions are of use inside a compiled loop, not only one by one."""
    apply_fill = COMPILED["apply_fill"]

    @numba.njit
    def trade(count: int) -> tuple[int, int, int]:
        quantity, cost, total = 0, 0, 0
        for bar in range(count):
            steps = 10 if bar % 3 else -15
            quantity, cost, realised = apply_fill(quantity, cost, steps, 1000 + bar, 7, 3)
            total += realised
        return quantity, cost, total

    assert trade(500) == trade.py_func(500)
