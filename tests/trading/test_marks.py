"""Marks between bars: what accounts are worth now, and what must not wait for a bar."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from collectors.models import Listing
from risk.models import RiskProfile, TradingState, TradingStateChange
from tests.trading.books import book
from trading.fields import from_units
from trading.models import Account, EquityPoint, Order, Position
from trading.services import create_account, live_worths, mark_accounts

NOON = datetime.fromisoformat("2021-05-13T12:00:00+00:00")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
pytestmark = pytest.mark.django_db


@pytest.fixture
def holding(world: Any, account: Account) -> Account:
    """10 bitcoin at 100, of 10,000, paid for with a fee of 0.5."""
    world.at(NOON)
    book(account, world.listed("bitcoin"), 10_000, 1000, NOON - HOUR)
    return account


def worth(account: Account) -> Decimal:
    return from_units(live_worths()[account.pk].equity)


def state_of(account: Account) -> str:
    return RiskProfile.objects.get(account=account).trading_state


def test_equity_is_marked_at_the_middle_of_a_fresh_quote(world: Any, holding: Account) -> None:
    world.quote("bitcoin", 109.0, 111.0)
    assert worth(holding) == Decimal("10000") - Decimal("0.5") + 10 * Decimal(10)
    found = live_worths()[holding.pk]
    assert (found.marks, found.at_closes) == ({"bitcoin": 1100}, ())
    assert from_units(found.gross_exposure) == 1100
    assert from_units(found.maintenance) == Decimal("4.4")


def test_without_one_the_newest_close_counts_and_is_said(world: Any, holding: Account) -> None:
    for hour, close in ((-2, 90.0), (-1, 95.0)):
        world.candle("bitcoin", NOON + hour * HOUR, (100.0, 101.0, 80.0, close))
    world.quote("bitcoin", 109.0, 111.0, at=NOON - HOUR)  # long ago
    assert worth(holding) == Decimal("9949.5")
    assert live_worths()[holding.pk].at_closes == ("bitcoin",)


def test_the_symbol_that_is_valid_now_is_asked_for(world: Any, holding: Account) -> None:
    Listing.objects.update(valid_to=NOON - MINUTE)
    Listing.objects.create(
        instrument=world.listed("bitcoin"), exchange="binance", symbol="NEWUSDT",
        valid_from=NOON - MINUTE, tick_size="0.1", quantity_step="0.001",
    )  # fmt: skip
    world.quote("new", 119.0, 121.0)
    assert live_worths()[holding.pk].marks == {"bitcoin": 1200}


def test_however_many_are_held_it_takes_as_many_queries(world: Any, holding: Account) -> None:
    with CaptureQueriesContext(connection) as few:
        live_worths()
    other = create_account(name="other", initial_capital=Decimal(10_000), exchange="bybit")
    for coin_id in ("ethereum", "solana", "cardano"):
        instrument = world.listed(coin_id)
        book(holding, instrument, 10, 1000, NOON - HOUR)
        listing = Listing.objects.get(instrument=instrument)
        listing.pk, listing.exchange = None, "bybit"
        listing.save()
        book(other, instrument, 10, 1000, NOON - HOUR)
    with CaptureQueriesContext(connection) as many:
        assert len(live_worths()) == 2
    assert len(few) == len(many) <= 4


def test_a_loss_between_bars_trips_and_says_so(world: Any, holding: Account) -> None:
    world.quote("bitcoin", 51.0, 51.0)  # 4.9% of the day's start
    mark_accounts()
    assert state_of(holding) == TradingState.ACTIVE
    world.quote("bitcoin", 49.0, 49.0)
    mark_accounts()
    assert state_of(holding) == TradingState.HALTED
    change = TradingStateChange.objects.get()
    assert change.cause == "daily_loss"
    mark_accounts()
    assert TradingStateChange.objects.count() == 1


def test_a_quotes_spike_leaves_no_mark(world: Any, holding: Account) -> None:
    world.quote("bitcoin", 900.0, 900.0)
    mark_accounts()
    holding.refresh_from_db()
    assert (holding.high_water_mark, holding.day_start_equity) == (10_000, 10_000)
    assert not EquityPoint.objects.exists()


def test_an_account_that_carries_its_positions_no_more_is_closed(
    world: Any, holding: Account
) -> None:
    book(holding, world.listed("bitcoin"), -110_000, 1000, NOON - HOUR)  # 100 short
    world.quote("bitcoin", 198.9, 199.0)
    mark_accounts()
    assert not Order.objects.filter(leg="liquidation").exists()
    world.quote("bitcoin", 199.8, 199.9)
    mark_accounts()
    assert Order.objects.filter(leg="liquidation").exists()


def test_a_day_without_any_event_begins_all_the_same(world: Any, holding: Account) -> None:
    """At the closes of its midnight, but not before the bars had their time to do it."""
    midnight = NOON + 12 * HOUR
    world.candle("bitcoin", midnight - HOUR, (100.0, 111.0, 99.0, 110.0))
    world.candle("bitcoin", midnight, (110.0, 151.0, 99.0, 150.0))
    world.at(midnight + timedelta(seconds=30))
    mark_accounts()
    holding.refresh_from_db()
    assert holding.day == date(2021, 5, 13)
    world.at(midnight + 3 * MINUTE)
    for _ in range(2):
        mark_accounts()
    holding.refresh_from_db()
    assert holding.day == date(2021, 5, 14)
    assert holding.day_start_equity == holding.high_water_mark == Decimal("10099.5")
    point = EquityPoint.objects.get()
    assert (point.at, point.equity) == (midnight, Decimal("10099.5"))
    world.at(midnight + timedelta(days=3, hours=1))
    mark_accounts()
    holding.refresh_from_db()
    assert (holding.day, EquityPoint.objects.count()) == (date(2021, 5, 17), 2)
    assert Position.objects.get().quantity_steps
