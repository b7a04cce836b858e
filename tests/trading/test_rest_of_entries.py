"""What an entry that was filled in parts, late or against another holding leaves behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collectors.models import Listing
from tests.trading.waiting import ASKS, BIDS, check, enter, place, show_book, sweep
from trading.models import Account, ExecutionAttempt, Fill, Order, OrderStatus, Position
from trading.services import advance_account, quotes, work_account, work_instrument
from trading.watched import watched_orders

START = datetime(2021, 5, 13, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
pytestmark = pytest.mark.django_db


def working() -> dict[str, Order]:
    return {order.leg: order for order in Order.objects.filter(status=OrderStatus.WORKING)}


def follow(world: Any, account: Account) -> Order:
    """A signal whose entry got 1.2 of 1.497 from the book."""
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + HOUR)
    show_book(world, BIDS, ASKS)
    advance_account(account_id=account.pk)
    return Order.objects.get(leg="open")


def test_an_entry_against_what_is_held_leaves_its_stop_and_target(
    world: Any, account: Account
) -> None:
    place(world, account, "open", -1, 1500, stop_loss=105.0, take_profit=90.0)
    assert sweep(world, account, START + 31 * MINUTE, 100.0, 100.1) == 1
    place(
        world, account, "open", 1, 500, kind="limit", limit_ticks=990, stop_loss=95.0,
        take_profit=110.0,
    )  # fmt: skip
    assert sweep(world, account, START + 32 * MINUTE, 98.7, 98.8) == 1
    position = Position.objects.get()
    assert (position.quantity_steps, position.stop_loss, position.take_profit) == (-1000, 105, 90)
    stop, target = working()["stop_loss"], working()["take_profit"]
    assert (stop.trigger_ticks, stop.remaining_steps) == (1050, 1000)
    assert (target.limit_ticks, target.remaining_steps) == (900, 1000)
    assert sweep(world, account, START + 33 * MINUTE, 98.7, 98.8) == 0


def test_what_an_entry_gets_after_its_stop_is_protected_again(world: Any, account: Account) -> None:
    place(world, account, "open", 1, 1500, kind="limit", limit_ticks=950, stop_loss=93.0)
    assert sweep(world, account, START + 31 * MINUTE, 100.0, 100.1) == 0
    assert sweep(world, account, START + 32 * MINUTE, 94.8, 94.9) == 1
    # Out of what it got, and the rest of the order is served by the same quote.
    assert sweep(world, account, START + 33 * MINUTE, 92.8, 92.9) == 2
    position = Position.objects.get()
    assert (position.quantity_steps, position.stop_loss) == (500, 93.0)
    assert working()["stop_loss"].remaining_steps == 500
    assert sweep(world, account, START + 34 * MINUTE, 92.8, 92.9) == 1
    assert Position.objects.get().quantity_steps == 0
    assert not ExecutionAttempt.objects.filter(outcome="failed").exists()


def test_what_an_entry_lacks_is_forgotten_when_its_signal_is_late(
    world: Any, account: Account
) -> None:
    order = follow(world, account)
    assert (order.status, order.remaining_steps) == ("working", 297)
    world.at(START + 2 * HOUR + MINUTE)
    show_book(world, BIDS, ASKS)
    assert work_account(account_id=account.pk) == 0
    order.refresh_from_db()
    assert (order.status, order.filled_steps) == ("expired", 1200)
    assert Position.objects.get().quantity_steps == working()["stop_loss"].remaining_steps == 1200


def test_a_stop_that_is_set_off_takes_back_what_the_entry_still_asks_for(
    world: Any, account: Account
) -> None:
    order = follow(world, account)
    world.at(START + HOUR + MINUTE)
    show_book(world, ((94.0, 0.5),), ASKS)
    assert work_account(account_id=account.pk) == 1
    order.refresh_from_db()
    assert (order.status, order.reason) == ("cancelled", "the stop was set off")
    assert Position.objects.get().quantity_steps == 700
    check(account)


def test_a_quote_of_tomorrow_leaves_no_stop_without_a_market(world: Any, account: Account) -> None:
    enter(world, account)
    trailing = {"kind": "trailing_stop", "trail_ticks": 20}
    place(world, account, "close", -1, 1500, **trailing)
    assert sweep(world, account, START + 32 * MINUTE, 100.0, 100.1) == 0
    world.quote("bitcoin", 101.0, 101.1, at=START + timedelta(days=1))
    assert work_account(account_id=account.pk) == 0
    assert sweep(world, account, START + 33 * MINUTE, 97.9, 98.0) == 1
    assert Position.objects.get().quantity_steps == 0


@pytest.mark.parametrize("is_told", [True, False])
def test_a_stop_follows_its_instrument_to_another_name(
    world: Any, account: Account, is_told: bool
) -> None:
    enter(world, account)
    renamed_at = START + 32 * MINUTE
    listing = Listing.objects.get()
    Listing.objects.update(valid_to=renamed_at)
    listing.pk, listing.symbol, listing.valid_from = None, "RENAMEDUSDT", renamed_at
    listing.save()
    world.at(renamed_at + MINUTE)
    world.quote("bitcoin", 90.0, 90.1)  # whatever has the old name now
    world.quote("renamed", 94.9, 95.0)
    assert {row.symbol for row in watched_orders()} == {"RENAMEDUSDT"}
    if is_told:
        assert work_instrument(exchange="binance", symbol="BITCOINUSDT") == 0
        assert work_instrument(exchange="binance", symbol="RENAMEDUSDT") == 1
    else:
        assert work_account(account_id=account.pk) == 1
    assert Fill.objects.latest("id").price_ticks == 948
    check(account)


def test_history_that_cannot_be_read_keeps_no_stop_from_its_market(
    world: Any, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(world, account)

    def fail(**_: Any) -> None:
        raise OSError("no such file")

    monkeypatch.setattr(quotes, "surroundings_at", fail)
    assert sweep(world, account, START + 32 * MINUTE, 94.9, 95.0) == 1
