"""Orders that take from a live book pay its depth; what it does not hold they go on asking for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.trading.waiting import ASKS, BIDS, SYMBOL, check, enter, place, show_book
from trading.models import Account, Fill, Order, Position, Trade
from trading.services import advance_account, work_account, work_instrument

START = datetime(2021, 5, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
pytestmark = pytest.mark.django_db


def test_an_entry_walks_the_levels_and_the_rest_waits_for_more(
    world: Any, account: Account
) -> None:
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + HOUR)
    show_book(world, BIDS, ASKS)
    advance_account(account_id=account.pk)
    fill = Fill.objects.get()
    # 1.0 at 100.1 and 0.2 at 100.5, the average up to the tick; 106.0 is further than the venue
    # lets a market order go.
    assert (fill.quantity_steps, fill.price_ticks) == (1200, 1002)
    assert fill.quote["levels"] == [[100.1, 1.0], [100.5, 0.2], [106.0, 10.0]]
    order = Order.objects.get(leg="open")
    assert (order.status, order.remaining_steps) == ("working", 297)
    position = Position.objects.get()
    assert position.quantity_steps == 1200
    stop = Order.objects.get(leg="stop_loss")
    assert stop.quantity_steps == 1200
    # The same book again gives nothing more; the next one does, and is protected, too.
    assert work_account(account_id=account.pk) == 0
    world.at(START + HOUR + MINUTE)
    show_book(world, BIDS, ASKS)
    assert work_account(account_id=account.pk) == 1
    stop.refresh_from_db()
    assert stop.quantity_steps == Position.objects.get().quantity_steps == 1497
    check(account)


def test_a_signal_takes_back_what_another_still_asks_for(world: Any, account: Account) -> None:
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + HOUR)
    show_book(world, BIDS, ASKS)
    advance_account(account_id=account.pk)
    world.signal("bitcoin", -1, START + HOUR)
    world.run(START + HOUR)
    world.at(START + 2 * HOUR)
    show_book(world, ((100.0, 0.5),), ASKS)
    advance_account(account_id=account.pk)
    # The close got 0.5 of 1.2: the other side waits for the rest of it.
    assert Position.objects.get().quantity_steps == 700
    assert Order.objects.get(leg="open").status == "cancelled"
    for minute in (1, 2):
        world.at(START + 2 * HOUR + minute * MINUTE)
        show_book(world, ((100.0, 0.5),), ASKS)
        advance_account(account_id=account.pk)
        check(account)
    assert Order.objects.filter(leg="close").count() == 1
    assert Trade.objects.get().exit_reason == "flip"
    assert Position.objects.get().quantity_steps == -500


def test_a_stop_that_a_quote_sets_off_pays_the_depth(world: Any, account: Account) -> None:
    enter(world, account)
    world.at(START + 32 * MINUTE)
    seen = show_book(world, ((94.9, 0.1),), ASKS, at=START + 32 * MINUTE)
    # Redis shows the book a moment later, recovered.
    show_book(
        world, ((95.4, 1.0), (95.0, 9.0)), ASKS, at=START + 32 * MINUTE + timedelta(0, 0, 500)
    )
    assert work_instrument(exchange="binance", symbol=SYMBOL, quotes=[seen]) == 1
    fill = Fill.objects.latest("id")
    # 1.0 at 95.4 and 0.5 at 95.0, down to the tick.
    assert (fill.order.leg, fill.price_ticks, fill.quantity_steps) == ("stop_loss", 952, 1500)
    assert fill.quote["set_off_by"]["best_bid"] == 94.9
    check(account)


def test_a_quote_that_was_seen_long_ago_has_no_show_book(world: Any, account: Account) -> None:
    enter(world, account)
    world.at(START + 33 * MINUTE)
    seen = show_book(world, ((94.9, 0.1),), ASKS, at=START + 32 * MINUTE)
    show_book(world, BIDS, ASKS)
    assert work_instrument(exchange="binance", symbol=SYMBOL, quotes=[seen]) == 1
    fill = Fill.objects.latest("id")
    assert (fill.price_ticks, "levels" in fill.quote) == (948, False)
    assert work_instrument(exchange="binance", symbol=SYMBOL, quotes=[seen]) == 0
    check(account)


def test_an_immediate_order_takes_what_there_is(world: Any, account: Account) -> None:
    order = place(world, account, "open", 1, 1500, time_in_force="ioc")
    world.at(START + 31 * MINUTE)
    show_book(world, BIDS, ASKS)
    assert work_account(account_id=account.pk) == 1
    order.refresh_from_db()
    assert (order.status, order.filled_steps) == ("cancelled", 1200)
    check(account)
