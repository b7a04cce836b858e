"""The backtest as small candle tables, and its agreement with paper trading."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors import clock
from collectors.marketdata import to_ms
from collectors.models import FundingRate
from risk.declarations import limits_from
from risk.facts import LEAD_HOURS, Hours
from risk.models import RiskDecision
from risk.services import change_limit
from signals.models import Signal
from trading.backtest import run_backtest
from trading.models import Account, EquityPoint, Fill, FundingPayment, Trade
from trading.orders import MONEY_UNITS, SLIPPAGE_BPS, Grid
from trading.services import advance_account, pay_funding
from trading.tape import HALF_SPREAD_BPS, Listed, Settlement, Tape, Terms, changed_rows

START = datetime.fromisoformat("2021-05-13T00:00:00+00:00")
HOUR = timedelta(hours=1)
HOUR_MS = 3_600_000
VOLUME = 1e5
LIMITS = limits_from({})
LISTED = Listed(since=0, until=2**63, grid=Grid.of("0.1", "0.001"), min_notional=5.0)
TERMS = Terms(
    strategy="consensus",
    initial_capital=10_000 * MONEY_UNITS,
    limits=LIMITS,
    listings={"bitcoin": [LISTED], "ethereum": [LISTED]},
    fee_ppm=500,
    maker_fee_ppm=200,
)


def tape(
    bars: list[tuple[float, float, float, float]],
    direction: list[int],
    *,
    stop: float = math.nan,
    valid: list[bool] | None = None,
    coins: tuple[str, ...] = ("bitcoin",),
) -> Tape:
    """One instrument's bars (open, high, low, close) and the wanted direction at each close."""
    prices = np.array(bars, dtype=np.float64)
    count = len(bars)
    shape = (count, 1)
    directions = np.array(direction, dtype=np.int8).reshape(shape)
    stops = np.where(directions != 0, stop, math.nan)
    real = np.array([True] * count if valid is None else valid).reshape(shape)
    none = np.full(shape, math.nan)
    opened = to_ms(START) + HOUR_MS * np.arange(count, dtype=np.int64)
    return Tape(
        instruments=coins,
        open_time=opened,
        close_time=opened + HOUR_MS,
        open=prices[:, :1],
        high=prices[:, 1:2],
        low=prices[:, 2:3],
        close=prices[:, 3:],
        valid=real,
        has_range=real,
        changed=changed_rows(directions, stops),
        direction=directions,
        confidence=np.full(shape, 0.75),
        stop_loss=stops,
        take_profit=none,
        position_size=none,
        hours=calm_hours(count, coins),
    )


def calm_hours(bars: int, coins: tuple[str, ...]) -> Hours:
    """Hours of a market that rests at 100 and trades a million an hour, to the last bar's close."""
    shape = (LEAD_HOURS + bars, len(coins))
    return Hours(
        coin_ids=coins,
        first_open=to_ms(START) - LEAD_HOURS * HOUR_MS,
        close=np.full(shape, 100.0),
        valid=np.full(shape, True),
        quote_volume=np.full(shape, 1e6),
    )


FLAT_BAR = (100.0, 100.5, 99.5, 100.0)


def test_a_signal_at_the_close_fills_at_the_next_open() -> None:
    outcome = run_backtest(
        tape([FLAT_BAR, FLAT_BAR, (103.0, 103.5, 102.5, 103.0), FLAT_BAR], [1, 0, 0, 0]), TERMS
    )
    (trade,) = outcome.trades
    # 100 plus a basis point of half spread and one of slippage; 103 less both; to the tick.
    assert (trade.entry_price, trade.exit_price) == (100.1, 102.9)
    assert trade.entered_at == to_ms(START + HOUR)
    assert trade.exited_at == to_ms(START + 2 * HOUR)
    assert trade.exit_reason == "signal"


def test_the_last_bar_has_no_next_open() -> None:
    outcome = run_backtest(tape([FLAT_BAR, FLAT_BAR], [0, 1]), TERMS)
    assert (outcome.fill_count, outcome.refusals) == (0, {})


def test_a_stop_inside_the_bar_of_the_fill_counts() -> None:
    bars = [FLAT_BAR, (100.0, 120.0, 90.0, 110.0), FLAT_BAR, FLAT_BAR]
    outcome = run_backtest(tape(bars, [1, 1, 1, 1]), TERMS)
    (trade,) = outcome.trades
    assert trade.exit_reason == "stop_loss"
    assert trade.exit_price == pytest.approx(98.0, abs=0.1)


def test_a_gap_through_the_stop_fills_at_the_open() -> None:
    bars = [FLAT_BAR, FLAT_BAR, (90.0, 91.0, 89.0, 90.0), FLAT_BAR]
    (trade,) = run_backtest(tape(bars, [1, 1, 1, 1]), TERMS).trades
    assert trade.exit_price == 89.9


def test_a_target_is_left_at_its_price_for_the_makers_fee() -> None:
    bars = [FLAT_BAR, (100.0, 104.1, 99.5, 104.0), (104.0, 120.0, 103.0, 110.0), FLAT_BAR]
    (trade,) = run_backtest(tape(bars, [1, 1, 1, 1]), TERMS).trades
    # Two stop distances above the entry at 100.1: touched by the second bar, passed by the third.
    assert (trade.exit_reason, trade.exit_price) == ("take_profit", 104.1)
    assert trade.exited_at == to_ms(START + 3 * HOUR)
    notional = trade.quantity * (trade.entry_price * 500 + trade.exit_price * 200) / 1e6
    assert trade.fees == pytest.approx(notional)


def test_no_new_entry_in_the_stopped_direction() -> None:
    bars = [FLAT_BAR, (100.0, 100.0, 90.0, 95.0), *[FLAT_BAR] * 5]
    direction = [1, 1, 1, 0, 1, 1, 1]
    moved = tape(bars, direction)
    moved.changed[2, 0] = True  # as by a moved stop
    outcome = run_backtest(moved, TERMS)
    assert outcome.refusals == {"stopped_out": 1}
    assert outcome.fill_count == 3


def test_a_hole_refuses_an_opening_and_delays_a_close() -> None:
    bars = [FLAT_BAR] * 7
    refused = run_backtest(
        tape(bars, [1, 1, 1, 1, 1, 1, 1], valid=[True, False, *[True] * 5]), TERMS
    )
    assert refused.refusals == {"no_quote": 1}
    delayed = run_backtest(
        tape(bars, [1, 1, 0, 0, 0, 0, 0], valid=[True, True, True, False, False, True, True]),
        TERMS,
    )
    assert delayed.trades[0].exited_at == to_ms(START + 5 * HOUR)


def test_an_instrument_without_a_listing_is_counted() -> None:
    outcome = run_backtest(tape([FLAT_BAR] * 3, [1, 1, 1], coins=("tether",)), TERMS)
    assert outcome.refusals == {"no_listing": 1}


def test_an_instrument_trades_on_the_listing_of_each_moment() -> None:
    change, end = to_ms(START + 3 * HOUR), to_ms(START + 5 * HOUR)
    old = replace(LISTED, until=change)
    new = replace(LISTED, since=change, until=end, grid=Grid.of("0.1", "1"))
    outcome = run_backtest(
        tape([FLAT_BAR] * 8, [1, 0, 1, 0, 1, 0, 0, 0]),
        replace(TERMS, listings={"bitcoin": [old, new]}),
    )
    assert [trade.quantity for trade in outcome.trades] == [1.498, 1.0]
    assert outcome.refusals == {"no_listing": 1}


def test_what_is_held_when_a_listing_ends_waits_for_another() -> None:
    ended = replace(LISTED, until=to_ms(START + 2 * HOUR))
    again = replace(LISTED, since=to_ms(START + 4 * HOUR))
    bars = tape([FLAT_BAR] * 6, [1, 0, 0, 0, 0, 0])
    held = run_backtest(bars, replace(TERMS, listings={"bitcoin": [ended]}))
    assert len(held.open_holdings) == 1
    closed = run_backtest(bars, replace(TERMS, listings={"bitcoin": [ended, again]}))
    assert closed.trades[0].exited_at == to_ms(START + 4 * HOUR)


def test_an_opening_that_cannot_be_counted_is_refused() -> None:
    tiny = replace(LISTED, grid=Grid.of("0.1", "0.0000000001"))
    outcome = run_backtest(
        tape([FLAT_BAR] * 3, [1, 1, 1]), replace(TERMS, listings={"bitcoin": [tiny]})
    )
    assert outcome.refusals == {"not_countable": 1}


def test_changed_rows_by_hand() -> None:
    direction = np.array([[0], [1], [1], [1], [-1], [0], [0]], dtype=np.int8)
    stop = np.array([[np.nan], [9.0], [9.0], [9.5], [np.nan], [np.nan], [7.0]])
    assert changed_rows(direction, stop)[:, 0].tolist() == [
        False, True, False, True, True, True, False,
    ]  # fmt: skip


def at(hours: float) -> int:
    return to_ms(START) + round(hours * HOUR_MS)


def test_a_settlement_counts_for_what_was_held_at_its_moment() -> None:
    nan = math.nan
    settled = [
        Settlement(at(1), 0.001, nan),  # the entry of that close comes after it
        Settlement(at(1.5), 0.001, 200.0),
        Settlement(at(2), -0.002, nan),
        Settlement(at(3), 0.001, nan),  # what closes at its moment pays it
        Settlement(at(4), 0.5, nan),
    ]
    bars = replace(tape([FLAT_BAR] * 6, [1, 1, 0, 0, 0, 0]), funding={"bitcoin": settled})
    outcome = run_backtest(bars, TERMS)
    (trade,) = outcome.trades
    paid = trade.quantity * (200.0 * 0.001 - 100.0 * 0.002 + 100.0 * 0.001)
    assert trade.funding == pytest.approx(-paid, abs=1e-8)
    assert outcome.funding == round(trade.funding * MONEY_UNITS)
    result = round((trade.pnl - trade.fees + trade.funding) * MONEY_UNITS)
    assert outcome.cash == TERMS.initial_capital + result
    # The mark of a close is from before the settlement of that moment.
    assert outcome.equity[3] == outcome.cash


def test_a_stop_at_a_settlement_leaves_nothing_to_pay() -> None:
    bars = tape([FLAT_BAR, (100.0, 100.5, 90.0, 95.0), FLAT_BAR], [1, 1, 1])
    settled = replace(bars, funding={"bitcoin": [Settlement(at(2), 0.01, math.nan)]})
    assert run_backtest(settled, TERMS).funding == 0
    assert run_backtest(settled, TERMS).trades == run_backtest(bars, TERMS).trades


@pytest.mark.parametrize(("opened", "is_liquidated"), [(620.0, False), (640.0, True)])
def test_an_account_that_carries_nothing_any_more_is_closed(
    opened: float, is_liquidated: bool
) -> None:
    gap = (opened, opened, opened, opened)
    bars = tape([FLAT_BAR, FLAT_BAR, gap, gap, gap], [-1, -1, -1, -1, -1])
    # Without true highs no stop is decided.
    bars = replace(bars, has_range=np.zeros_like(bars.has_range))
    shares = {"max_position_size": 0.25, "max_single_asset": 0.5, "base_size": 0.25}
    outcome = run_backtest(bars, replace(TERMS, limits=limits_from(shares)))
    assert bool(outcome.trades) == is_liquidated
    if is_liquidated:
        (trade,) = outcome.trades
        assert (trade.exit_reason, trade.exited_at) == ("liquidation", at(2))
        assert not outcome.open_holdings


@settings(deadline=None)
@given(
    directions=st.lists(st.integers(-1, 1), min_size=2, max_size=40),
    moves=st.lists(st.floats(-0.05, 0.05), min_size=40, max_size=40),
)
def test_the_end_is_the_capital_plus_all_that_happened(
    directions: list[int], moves: list[float]
) -> None:
    """Cash = capital + realised - fees, and equity = cash + what is open, to the last unit."""
    bars, price = [], 100.0
    for move in moves[: len(directions)]:
        close = price * (1.0 + move)
        bars.append((price, max(price, close), min(price, close), close))
        price = close
    outcome = run_backtest(tape(bars, directions), TERMS)
    realised = sum(round(trade.pnl * MONEY_UNITS) for trade in outcome.trades)
    assert outcome.cash == TERMS.initial_capital + realised - outcome.fees
    assert len(outcome.equity) == len(outcome.exposure) == len(bars)
    if not outcome.open_holdings:
        assert outcome.equity[-1] == outcome.cash


def tell_settlement(world: Any, moment: datetime, rate: float) -> None:
    FundingRate.objects.create(
        instrument=world.listed("bitcoin"), exchange="binance", symbol="BITCOINUSDT",
        funding_time=moment, rate=rate, interval_hours=1, received_at=moment,
    )  # fmt: skip


@pytest.mark.django_db
def test_paper_trading_of_the_same_signals_ends_in_the_same_books(
    world: Any, account: Account
) -> None:
    """Quotes set where the backtest sees them: the same fills, cash and equity, bar by bar.

    Sized by the market of the month before and by the record that grows on the way.
    """
    rng = np.random.default_rng(7)
    before = (100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.008, LEAD_HOURS)))).tolist()
    # Ticks so fine that every basis point of slippage is one.
    world.before(world.listed("bitcoin", tick_size="0.0001"), before)
    change_limit(profile_id=account.profile_id, name="kelly_min_trades", value=5)
    closes = np.round(100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, 40))), 1).tolist()
    bars, opened = [], 100.0
    for close in closes:
        bars.append((opened, max(opened, close) + 1.4, min(opened, close) - 1.4, close))
        opened = close
    wanted = rng.choice([-1, 0, 1], size=40, p=[0.3, 0.3, 0.4]).tolist()
    history = tape(bars, wanted)
    hours = replace(history.hours, close=np.array([*before, *closes]).reshape(-1, 1))
    hours = replace(hours, quote_volume=hours.close * VOLUME)
    fine = replace(LISTED, grid=Grid.of("0.0001", "0.001"))
    terms = replace(
        TERMS, limits=limits_from({"kelly_min_trades": 5}), listings={"bitcoin": [fine]}
    )
    rates = rng.normal(0.0, 0.002, 40).round(5).tolist()
    settled = [Settlement(at(place), rate, math.nan) for place, rate in enumerate(rates, 1)]
    outcome = run_backtest(replace(history, hours=hours, funding={"bitcoin": settled}), terms)
    for index in range(39):
        bar = START + index * HOUR
        world.at(bar + HOUR)
        world.candle("bitcoin", bar, bars[index])
        if history.changed[index, 0]:
            world.signal("bitcoin", wanted[index], bar)
        half = bars[index + 1][0] * HALF_SPREAD_BPS / 10_000.0
        world.quote("bitcoin", bars[index + 1][0] - half, bars[index + 1][0] + half)
        world.run(bar)
        advance_account(account_id=account.pk)
        tell_settlement(world, bar + HOUR, rates[index])
        pay_funding()
    account.refresh_from_db()
    assert FundingPayment.objects.count() == 3
    funding = list(Trade.objects.order_by("id").values_list("funding", flat=True))
    assert sum(amount != 0 for amount in funding) == 2
    told = [round(trade.funding * MONEY_UNITS) for trade in outcome.trades]
    assert [int(amount * MONEY_UNITS) for amount in funding] == told[: len(funding)]
    assert clock.now() > START
    assert Signal.objects.count() == history.changed[:39].sum() > 10
    assert Fill.objects.count() > 10
    slippages = {fill.quote["slippage_bps"] for fill in Fill.objects.filter(liquidity="taker")}
    assert len(slippages) > 10
    assert min(slippages) > SLIPPAGE_BPS
    assert Fill.objects.filter(order__leg="stop_loss").exists()
    sizes = [row.outputs["sizes"] for row in RiskDecision.objects.filter(is_approved=True)]
    assert all(isinstance(each["volatility_target"], float) for each in sizes)
    assert {isinstance(each["kelly"], float) for each in sizes} == {True, False}
    equity = list(EquityPoint.objects.order_by("at").values_list("equity", flat=True))
    assert [int(value * MONEY_UNITS) for value in equity] == outcome.equity[:39]
