"""From bar runs to fills: every signal once, refusals as rows, books that add up."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from collectors import clock
from collectors.models import Listing
from risk.models import RiskDecision, TradingState
from signals.models import RunState
from tests.factories import make_instrument, make_signal
from trading import events
from trading.models import (
    Account,
    EquityPoint,
    Fill,
    LedgerEntry,
    Order,
    PendingSignal,
    Position,
    Trade,
)
from trading.selectors import accounts_at_work
from trading.services import (
    NoQuoteError,
    advance_account,
    close_position,
    reconcile,
    seed_account,
    set_trading_state,
    update_account,
)
from trading.services.execution import execute_signal

START = datetime.fromisoformat("2021-05-13T00:00:00+00:00")
HOUR = timedelta(hours=1)
pytestmark = pytest.mark.django_db


def advance(account: Account) -> Account:
    """Work off what is due, check the books, and give the account as it then is."""
    advance_account(account_id=account.pk)
    assert reconcile(account_id=account.pk).mismatches == ()
    account.refresh_from_db()
    return account


def enter(world: Any, account: Account, *, direction: int = 1, **fields: Any) -> Position:
    """A position in bitcoin from a signal of the first bar, at a quote of 100.0 / 100.1."""
    world.candle("bitcoin", START, (100.0, 101.0, 99.0, 100.0))
    world.signal("bitcoin", direction, START, **fields)
    world.run(START)
    world.at(START + HOUR + timedelta(seconds=2))
    world.quote("bitcoin", 100.0, 100.1)
    advance(account)
    return Position.objects.get(account=account)


def reasons() -> list[str]:
    return list(RiskDecision.objects.order_by("id").values_list("rejection_reason", flat=True))


def test_a_long_signal_becomes_a_position_with_its_books(world: Any, account: Account) -> None:
    position = enter(world, account)
    fill = Fill.objects.get()
    decision = RiskDecision.objects.get()
    account.refresh_from_db()
    # 2% x 0.75 of 10,000 at the ask plus one basis point, up to the tick: 100.2.
    assert fill.price_ticks == 1002
    assert position.quantity_steps == 1497
    assert decision.position_size == pytest.approx(149.9994)
    assert fill.order.side == "buy"
    assert fill.fee == Decimal("0.0749997")
    assert account.cash == Decimal(10_000) - fill.fee
    assert position.total_cost == Decimal("149.9994")
    # On the nearest ticks of 100.2 x 0.98 and 100.2 x 1.04, and both are working orders.
    assert (position.stop_loss, position.take_profit) == (98.2, 104.2)
    working = Order.objects.filter(status="working").order_by("id")
    assert list(working.values_list("leg", "side", "quantity_steps", "oco")) == [
        ("stop_loss", "sell", 1497, f"entry:{fill.order_id}"),
        ("take_profit", "sell", 1497, f"entry:{fill.order_id}"),
    ]
    assert fill.quote["best_ask"] == 100.1
    assert fill.quote["slippage_bps"] == 1.0
    assert decision.inputs["equity"] == 10_000.0
    assert decision.config_snapshot["max_position_size"] == 0.1
    point = EquityPoint.objects.get()
    assert point.at == START + HOUR
    assert point.equity == account.cash + Decimal("149.7") - position.total_cost
    assert account.processed_bar == START


def test_working_off_a_run_again_changes_nothing(world: Any, account: Account) -> None:
    enter(world, account)
    Account.objects.update(processed_bar=None)
    advance(account)
    assert (Fill.objects.count(), LedgerEntry.objects.count(), EquityPoint.objects.count()) == (
        1,
        4,
        1,
    )


def test_flat_closes_and_a_trade_is_recorded(world: Any, account: Account) -> None:
    enter(world, account)
    world.candle("bitcoin", START + HOUR, (100.0, 101.0, 99.5, 101.0))
    world.signal("bitcoin", 0, START + HOUR, confidence=0.0)
    world.run(START + HOUR)
    world.at(START + 2 * HOUR)
    world.quote("bitcoin", 101.0, 101.1)
    account = advance(account)
    trade = Trade.objects.get()
    assert (trade.direction, trade.exit_reason, trade.strategy) == (1, "signal", "consensus")
    # Sold at 101.0 less a basis point, down to the tick: 100.9, bought at 100.2.
    assert trade.pnl == Decimal("1.497") * Decimal("0.7")
    assert trade.entry_price == pytest.approx(100.2)
    assert account.cash == Decimal(10_000) + trade.pnl - trade.fees
    assert Position.objects.get().quantity_steps == 0


def test_the_opposite_flips_and_the_same_does_nothing(world: Any, account: Account) -> None:
    enter(world, account)
    world.run(START + HOUR)
    world.signal("bitcoin", 1, START + HOUR, confidence=0.9)
    world.at(START + 2 * HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    advance(account)
    assert Fill.objects.count() == 1
    world.signal("bitcoin", -1, START + 2 * HOUR)
    world.run(START + 2 * HOUR)
    world.at(START + 3 * HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    advance(account)
    executed = Order.objects.filter(status="filled").order_by("id")
    assert list(executed.values_list("leg", "side")) == [
        ("open", "buy"),
        ("close", "sell"),
        ("open", "sell"),
    ]
    assert Position.objects.get().quantity_steps < 0
    assert Trade.objects.get().exit_reason == "flip"


def test_a_stop_is_decided_on_bars_after_the_entry(world: Any, account: Account) -> None:
    """The entry's own bar touched the stop level before the position existed."""
    position = enter(world, account, stop_loss=99.5)
    assert position.quantity_steps > 0
    world.candle("bitcoin", START + HOUR, (100.0, 100.5, 99.0, 100.0))
    world.run(START + HOUR)
    world.at(START + 2 * HOUR)
    advance(account)
    fill = Fill.objects.first()
    assert fill is not None
    # The stop of 99.5 less a basis point, down to the tick.
    assert (fill.order.leg, fill.price_ticks) == ("stop_loss", 994)
    assert fill.bar_open_time == START + HOUR
    assert list(Order.objects.filter(leg="take_profit").values_list("status", flat=True)) == [
        "cancelled"
    ]
    assert fill.quote["candle"]["low"] == 99.0
    assert Trade.objects.get().exit_reason == "stop_loss"


def test_after_a_stop_the_same_direction_waits_for_a_change(world: Any, account: Account) -> None:
    enter(world, account, stop_loss=99.5)
    world.candle("bitcoin", START + HOUR, (99.0, 100.5, 98.0, 99.0))
    world.signal("bitcoin", 1, START + HOUR, stop_loss=97.0)
    world.run(START + HOUR)
    world.at(START + 2 * HOUR)
    world.quote("bitcoin", 99.0, 99.1)
    advance(account)
    assert reasons() == ["", "stopped_out"]
    # Flat is a change of direction, and then long is welcome again.
    for index, direction in enumerate((0, 1), start=2):
        world.signal("bitcoin", direction, START + index * HOUR)
        world.run(START + index * HOUR)
        world.at(START + (index + 1) * HOUR)
        world.quote("bitcoin", 99.0, 99.1)
        advance(account)
    assert reasons() == ["", "stopped_out", ""]
    assert Position.objects.get().quantity_steps > 0


@pytest.mark.parametrize("is_sampled", [True, False])
def test_no_stop_is_decided_on_a_sampled_candle(
    world: Any, account: Account, is_sampled: bool
) -> None:
    enter(world, account)
    world.candle("bitcoin", START + HOUR, (100.0, 100.0, 50.0, 60.0), is_sampled=is_sampled)
    world.run(START + HOUR)
    world.at(START + 2 * HOUR)
    advance(account)
    assert Fill.objects.count() == (1 if is_sampled else 2)


def test_a_signal_waits_for_a_quote_and_blocks_nobody(world: Any, account: Account) -> None:
    world.signal("bitcoin", 1, START)
    world.signal("ethereum", 1, START)
    world.run(START)
    world.at(START + HOUR + timedelta(seconds=2))
    world.quote("bitcoin", 100.0, 100.1, at=START + HOUR - timedelta(seconds=1))
    world.quote("ethereum", 50.0, 50.1)
    account = advance(account)
    assert account.processed_bar == START
    assert [fill.order.symbol for fill in Fill.objects.all()] == ["ETHEREUMUSDT"]
    assert PendingSignal.objects.get().instrument.coin_id == "bitcoin"
    world.quote("bitcoin", 100.0, 100.1)
    advance(account)
    assert Fill.objects.count() == 2
    assert not PendingSignal.objects.exists()


@pytest.mark.parametrize("quote", [(0.0, 1.0), (101.0, 100.0), (-1.0, 100.0)])
def test_a_senseless_quote_is_not_met(
    world: Any, account: Account, quote: tuple[float, float]
) -> None:
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + HOUR)
    world.quote("bitcoin", *quote)
    advance(account)
    assert not Fill.objects.exists()
    assert PendingSignal.objects.count() == 1


def test_a_stale_quote_is_not_met(world: Any, account: Account) -> None:
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    world.at(START + HOUR + timedelta(seconds=20))
    advance(account)
    assert not Fill.objects.exists()


def test_an_opening_expires_after_a_bar(world: Any, account: Account) -> None:
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + HOUR)
    advance(account)
    world.at(START + 2 * HOUR + timedelta(seconds=1))
    world.quote("bitcoin", 100.0, 100.1)
    advance(account)
    assert reasons() == ["no_quote"]
    assert not PendingSignal.objects.exists()
    assert not Fill.objects.exists()


def test_a_close_never_expires_and_a_late_flip_only_closes(world: Any, account: Account) -> None:
    enter(world, account)
    world.signal("bitcoin", -1, START + HOUR)
    world.run(START + HOUR)
    world.at(START + 2 * HOUR + timedelta(minutes=5))
    advance(account)
    world.at(START + 9 * HOUR)
    advance(account)
    assert PendingSignal.objects.count() == 1
    world.quote("bitcoin", 100.0, 100.1)
    advance(account)
    assert Position.objects.get().quantity_steps == 0
    assert reasons() == ["", "stale_quote"]
    assert not PendingSignal.objects.exists()


def test_a_newer_signal_overtakes_the_waiting_one(world: Any, account: Account) -> None:
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + HOUR)
    advance(account)
    world.signal("bitcoin", 0, START + HOUR)
    world.run(START + HOUR)
    world.at(START + 2 * HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    advance(account)
    assert not Fill.objects.exists()
    assert not PendingSignal.objects.exists()


@pytest.mark.parametrize("has_quote", [True, False])
def test_a_bar_run_that_comes_after_something_newer_leaves_it(
    world: Any, account: Account, has_quote: bool
) -> None:
    older = world.signal("bitcoin", -1, START)
    newer = world.signal("bitcoin", 1, START + HOUR)
    world.at(START + 2 * HOUR)
    if has_quote:
        world.quote("bitcoin", 100.0, 100.1)
    execute_signal(account=account, signal=newer, run_bar=START + HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    execute_signal(account=account, signal=older, run_bar=START)
    advance(account)
    assert [fill.order.signal for fill in Fill.objects.all()] == [newer]


def test_a_late_run_only_closes(world: Any, account: Account) -> None:
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + 3 * HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    advance(account)
    assert reasons() == ["late"]


def test_runs_are_worked_off_in_order_and_none_is_skipped(world: Any, account: Account) -> None:
    world.run(START - 2 * HOUR)
    world.run(START, state=RunState.RUNNING)
    world.run(START + HOUR)
    world.at(START + 2 * HOUR)
    assert advance(account).processed_bar is None
    world.run(START)
    assert advance(account).processed_bar == START + HOUR
    assert EquityPoint.objects.count() == 2


def test_an_instrument_without_a_listing_is_refused(world: Any, account: Account) -> None:
    make_instrument("tether")
    make_signal(bar=START, coin_id="tether", direction=1)
    world.run(START)
    world.at(START + HOUR)
    advance(account)
    assert reasons() == ["no_listing"]


def test_a_listing_with_a_broken_grid_is_no_listing(world: Any, account: Account) -> None:
    world.listed("bitcoin")
    Listing.objects.update(tick_size="zero")
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    advance(account)
    assert reasons() == ["no_listing"]


def test_other_strategies_are_not_followed(world: Any, account: Account) -> None:
    world.signal("bitcoin", 1, START, strategy="mean_reversion")
    world.run(START)
    world.at(START + HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    assert advance(account).processed_bar == START
    assert not RiskDecision.objects.exists()


@pytest.mark.parametrize("state", [TradingState.HALTED, TradingState.REDUCING])
def test_the_switch_stops_openings_but_not_closes(world: Any, account: Account, state: str) -> None:
    enter(world, account)
    set_trading_state(account_id=account.pk, state=state, reason="test", by="ada")
    world.signal("bitcoin", -1, START + HOUR)
    world.run(START + HOUR)
    world.at(START + 2 * HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    advance(account)
    assert reasons() == ["", f"trading_{state}"]
    assert Position.objects.get().quantity_steps == 0


def test_what_an_account_holds_stays_protected_when_it_is_switched_off(
    world: Any, account: Account
) -> None:
    enter(world, account, stop_loss=99.5)
    world.signal("ethereum", 1, START + HOUR)
    world.signal("bitcoin", 0, START + HOUR)
    world.run(START + HOUR)
    update_account(account_id=account.pk, is_active=False)
    world.at(START + 2 * HOUR)
    world.quote("ethereum", 100.0, 100.1)
    world.quote("bitcoin", 100.0, 100.1)
    assert account.pk in accounts_at_work()
    advance(account)
    assert Fill.objects.count() == 1
    world.candle("bitcoin", START + 2 * HOUR, (100.0, 100.5, 99.0, 100.0))
    world.run(START + 2 * HOUR)
    world.at(START + 3 * HOUR)
    advance(account)
    assert Trade.objects.get().exit_reason == "stop_loss"
    assert accounts_at_work() == []


def test_a_person_closes_a_position(world: Any, account: Account) -> None:
    enter(world, account)
    fill = close_position(account_id=account.pk, coin_id="bitcoin")
    assert fill is not None
    assert Trade.objects.get().exit_reason == "manual"
    assert reconcile(account_id=account.pk).mismatches == ()
    assert close_position(account_id=account.pk, coin_id="bitcoin") is None


def test_a_person_needs_a_quote_to_close(world: Any, account: Account) -> None:
    enter(world, account)
    world.at(START + 2 * HOUR)
    with pytest.raises(NoQuoteError):
        close_position(account_id=account.pk, coin_id="bitcoin")
    assert Fill.objects.count() == 1


def test_a_mismatch_halts_the_account(world: Any, account: Account) -> None:
    enter(world, account)
    Account.objects.update(cash=Decimal(1))
    assert len(reconcile(account_id=account.pk).mismatches) == 1
    account.profile.refresh_from_db()
    assert account.profile.trading_state == TradingState.HALTED


def test_the_day_rolls_at_midnight_and_the_mark_is_kept(world: Any, account: Account) -> None:
    enter(world, account)
    for hour in range(1, 24):
        price = 100.0 + hour
        world.candle("bitcoin", START + hour * HOUR, (price, price, price, price))
        world.run(START + hour * HOUR)
    Position.objects.update(take_profit=None)
    world.at(START + 24 * HOUR)
    account = advance(account)
    assert account.day == (START + 24 * HOUR).date()
    assert account.day_start_equity == account.high_water_mark > Decimal(10_000)
    assert EquityPoint.objects.count() == 24


def test_downstream_hears_after_the_commit(
    world: Any, account: Account, django_capture_on_commit_callbacks: Any
) -> None:
    heard: dict[str, Any] = {}

    def listen(signal: Any, **values: Any) -> None:
        heard.update({name: value for name, value in values.items() if name != "sender"})

    for signal in (events.fills_recorded, events.decisions_recorded):
        signal.connect(listen)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            enter(world, account)
    finally:
        for signal in (events.fills_recorded, events.decisions_recorded):
            signal.disconnect(listen)
    assert heard["fill_ids"] == [Fill.objects.get().pk]
    assert heard["decision_ids"] == [RiskDecision.objects.get().pk]


def test_the_seeded_account_is_made_once(world: Any) -> None:
    first = seed_account()
    assert seed_account() == first
    assert first.cash == Decimal(10_000)
    assert dict(LedgerEntry.objects.values_list("book", "amount")) == {
        "cash": Decimal(10_000),
        "capital": Decimal(-10_000),
    }
    assert first.created_at == clock.current().start
