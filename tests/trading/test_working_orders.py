"""Working orders meet quotes, books and bars: each input once, in the order of the market."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from collectors.models import Instrument
from risk.models import RiskDecision, TradingState
from tests.trading.waiting import check, enter, place, sweep
from trading.models import Account, Fill, Order, Position, Trade
from trading.services import (
    advance_account,
    set_trading_state,
    work_account,
    work_instrument,
)

START = datetime(2021, 5, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
pytestmark = pytest.mark.django_db


def test_a_market_order_waits_for_its_quote(world: Any, account: Account) -> None:
    place(world, account, "open", 1, 1500, stop_loss=95.0)
    assert work_account(account_id=account.pk) == 0
    enter_at = START + 30 * timedelta(minutes=1) + SECOND
    assert sweep(world, account, enter_at, 100.0, 100.1) == 1
    position = Position.objects.get()
    assert (position.quantity_steps, position.stop_loss) == (1500, 95.0)
    decision = RiskDecision.objects.get()
    assert decision.is_approved
    assert Order.objects.get(leg="open").decision == decision


def test_an_order_meets_no_quote_from_before_it_could_be_there(
    world: Any, account: Account
) -> None:
    Account.objects.update(latency_ms=500)
    order = place(world, account, "open", 1, 1500)
    for late, fills in ((200, 0), (499, 0), (500, 1)):
        world.quote("bitcoin", 100.0, 100.1, at=order.at + timedelta(milliseconds=late))
        assert work_account(account_id=account.pk) == fills


def test_a_stop_is_set_off_by_a_quote_and_cancels_the_target(world: Any, account: Account) -> None:
    enter(world, account)
    later = START + 32 * timedelta(minutes=1)
    assert sweep(world, account, later, 95.1, 95.2) == 0
    assert sweep(world, account, later + SECOND, 94.9, 95.0) == 1
    trade = Trade.objects.get()
    assert trade.exit_reason == "stop_loss"
    assert trade.exit_price == pytest.approx(94.8)
    assert Order.objects.get(leg="take_profit").status == "cancelled"
    assert Position.objects.get().stopped_direction == 1


def test_a_target_rests_and_is_served_in_parts(world: Any, account: Account) -> None:
    enter(world, account)
    later = START + 32 * timedelta(minutes=1)
    # The quote shows 1.0 of the 1.5 that are held.
    assert sweep(world, account, later, 110.2, 110.3) == 1
    assert Position.objects.get().quantity_steps == 500
    stop, target = Order.objects.get(leg="stop_loss"), Order.objects.get(leg="take_profit")
    assert (stop.remaining_steps, target.remaining_steps) == (500, 500)
    # The same quote again is the same quote.
    assert work_account(account_id=account.pk) == 0
    assert sweep(world, account, later + SECOND, 110.2, 110.3) == 1
    trade = Trade.objects.get()
    assert (trade.exit_reason, trade.exit_price) == ("take_profit", 110.0)
    fill = Fill.objects.filter(order__leg="take_profit").latest("id")
    assert (fill.liquidity, fill.slippage) == ("maker", Decimal(0))
    assert Order.objects.get(leg="stop_loss").status == "cancelled"


def test_one_quote_sets_off_several_orders(world: Any, account: Account) -> None:
    enter(world, account)
    place(world, account, "open", 1, 200, kind="limit", limit_ticks=940, stop_loss=90.0)
    assert sweep(world, account, START + 32 * timedelta(minutes=1), 93.0, 93.1) == 2
    legs = Fill.objects.order_by("id").values_list("order__leg", flat=True)
    assert list(legs) == ["open", "stop_loss", "open"]
    # The new entry has its own stop, and the old one's is gone.
    assert Position.objects.get().stop_loss == 90.0


def test_a_gap_through_the_target_at_the_open_is_no_stop(world: Any, account: Account) -> None:
    enter(world, account)
    world.candle("bitcoin", START + HOUR, (112.0, 113.0, 90.0, 91.0))
    for hour in (0, 1):
        world.run(START + hour * HOUR)
    world.at(START + 2 * HOUR)
    advance_account(account_id=account.pk)
    check(account)
    assert Trade.objects.get().exit_reason == "take_profit"
    assert Trade.objects.get().exit_price == 110.0


@pytest.mark.parametrize("by_symbol", [False, True])
def test_bars_that_closed_unwatched_come_before_the_newest_quote(
    world: Any, account: Account, by_symbol: bool
) -> None:
    enter(world, account)
    Account.objects.update(processed_bar=START)
    world.candle("bitcoin", START + HOUR, (100.0, 105.0, 96.0, 97.0))
    world.candle("bitcoin", START + 2 * HOUR, (97.0, 98.0, 94.0, 95.5))
    world.candle("bitcoin", START + 3 * HOUR, (95.5, 112.0, 95.5, 111.0))
    world.at(START + 4 * HOUR)
    world.quote("bitcoin", 120.0, 120.1)
    if by_symbol:
        assert work_instrument(exchange="binance", symbol="BITCOINUSDT") == 1
    else:
        assert work_account(account_id=account.pk) == 1
    fill = Fill.objects.latest("id")
    assert (fill.order.leg, fill.bar_open_time) == ("stop_loss", START + 2 * HOUR)
    assert fill.at == START + 3 * HOUR


def test_a_bar_behind_a_run_that_is_not_worked_off_waits(world: Any, account: Account) -> None:
    enter(world, account)
    Account.objects.update(processed_bar=START)
    world.candle("bitcoin", START + HOUR, (100.0, 105.0, 96.0, 97.0))
    world.candle("bitcoin", START + 2 * HOUR, (97.0, 98.0, 94.0, 95.5))
    world.run(START + HOUR)
    world.at(START + 3 * HOUR)
    assert work_account(account_id=account.pk) == 0
    advance_account(account_id=account.pk)
    assert work_account(account_id=account.pk) == 1


def test_a_trailing_stop_follows_and_never_loosens(world: Any, account: Account) -> None:
    enter(world, account)
    Order.objects.filter(leg="stop_loss").update(kind="trailing_stop", trail_ticks=50)
    minute = START + 32 * timedelta(minutes=1)
    for second, bid in enumerate((100.0, 104.0, 102.0)):
        assert sweep(world, account, minute + second * SECOND, bid, bid + 0.1) == 0
    assert Order.objects.get(leg="stop_loss").watermark_ticks == 1040
    assert Position.objects.get().stop_loss == 99.0
    # The bar in which a quote moved it decides nothing: its low may be from before.
    world.candle("bitcoin", START, (100.0, 105.0, 90.0, 102.0))
    world.candle("bitcoin", START + HOUR, (102.0, 103.0, 98.0, 100.0))
    Account.objects.update(processed_bar=START - HOUR)
    world.at(START + 2 * HOUR)
    assert work_account(account_id=account.pk) == 1
    fill = Fill.objects.latest("id")
    assert (fill.bar_open_time, fill.price_ticks) == (START + HOUR, 989)
    check(account)


def test_a_stop_limit_rests_once_it_is_set_off(world: Any, account: Account) -> None:
    enter(world, account)
    Order.objects.filter(leg="stop_loss").update(kind="stop_limit", limit_ticks=945)
    minute = START + 32 * timedelta(minutes=1)
    assert sweep(world, account, minute, 94.0, 94.1) == 0
    assert Order.objects.get(leg="stop_loss").is_triggered
    assert sweep(world, account, minute + SECOND, 94.6, 94.7) == 1
    fill = Fill.objects.latest("id")
    assert (fill.price_ticks, fill.quantity_steps, fill.liquidity) == (945, 1000, "maker")


def test_orders_expire_by_market_time(world: Any, account: Account) -> None:
    enter(world, account)
    until = START + 40 * timedelta(minutes=1)
    order = place(world, account, "open", 1, 100, kind="limit", limit_ticks=900, expires_at=until)
    assert sweep(world, account, until - SECOND, 100.0, 100.1) == 0
    assert sweep(world, account, until, 80.0, 80.1) == 1
    order.refresh_from_db()
    assert (order.status, order.filled_steps, order.ended_at) == ("expired", 0, until)


def test_what_is_not_filled_at_once_is_cancelled(world: Any, account: Account) -> None:
    order = place(
        world, account, "open", 1, 1500, kind="limit", limit_ticks=1001, time_in_force="ioc"
    )
    assert sweep(world, account, START + 31 * timedelta(minutes=1), 100.0, 100.1) == 1
    order.refresh_from_db()
    assert (order.status, order.filled_steps) == ("cancelled", 1000)
    assert Position.objects.get().quantity_steps == 1000


@pytest.mark.parametrize("state", [TradingState.HALTED, TradingState.REDUCING])
def test_a_resting_entry_is_asked_about_again(world: Any, account: Account, state: str) -> None:
    order = place(world, account, "open", 1, 1500, kind="limit", limit_ticks=1010)
    set_trading_state(account_id=account.pk, state=state, reason="test", by="ada")
    # As a switch that died before it had cancelled the entries.
    Order.objects.update(status="working", ended_at=None)
    assert sweep(world, account, START + 31 * timedelta(minutes=1), 100.0, 100.1) == 0
    order.refresh_from_db()
    assert (order.status, order.reason) == ("cancelled", f"trading_{state}")
    assert not RiskDecision.objects.get().is_approved


def test_risk_may_grant_less_than_an_entry_asks_for(world: Any, account: Account) -> None:
    order = place(world, account, "open", 1, 50_000)
    assert sweep(world, account, START + 31 * timedelta(minutes=1), 100.0, 100.1) == 1
    order.refresh_from_db()
    assert order.status == "filled"
    # 2% of 10,000 at 100.2, however much was asked for.
    assert order.filled_steps == order.quantity_steps == 1996


def test_a_close_never_turns_the_position(world: Any, account: Account) -> None:
    enter(world, account)
    for _ in range(2):
        place(world, account, "close", -1, 1400)
    assert sweep(world, account, START + 32 * timedelta(minutes=1), 100.0, 100.1) == 2
    assert Position.objects.get().quantity_steps == 0
    statuses = Order.objects.filter(leg="close").order_by("id")
    assert list(statuses.values_list("status", "filled_steps")) == [
        ("filled", 1400),
        ("cancelled", 100),
    ]


def test_one_symbol_is_worked_for_every_account(world: Any, account: Account) -> None:
    place(world, account, "open", 1, 1500)
    world.at(START + 31 * timedelta(minutes=1))
    world.quote("bitcoin", 100.0, 100.1)
    assert work_instrument(exchange="binance", symbol="ETHEREUMUSDT") == 0
    assert work_instrument(exchange="binance", symbol="BITCOINUSDT") == 1
    assert Instrument.objects.get(coin_id="bitcoin") == Position.objects.get().instrument


@pytest.mark.parametrize(("low", "legs"), [(93.0, ["open", "stop_loss"]), (93.4, ["open"])])
def test_the_bar_that_opens_a_position_may_end_it(
    world: Any, account: Account, low: float, legs: list[str]
) -> None:
    place(world, account, "open", 1, 1500, kind="limit", limit_ticks=950, stop_loss=93.2)
    Account.objects.update(processed_bar=START)
    world.candle("bitcoin", START + HOUR, (100.0, 105.0, low, 104.0))
    world.at(START + 2 * HOUR)
    assert work_account(account_id=account.pk) == len(legs)
    assert list(Fill.objects.order_by("id").values_list("order__leg", flat=True)) == legs
    check(account)
