"""However often and in whatever order inputs arrive, orders fill once and the books add up."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors.marketdata import Quote
from collectors.models import Instrument
from tests.trading.waiting import check, enter, place
from trading.encounters import BarMet, Encounter, QuoteMet
from trading.models import Account, Fill, Order, Position
from trading.services import create_account, work_orders

START = datetime(2021, 5, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
pytestmark = pytest.mark.django_db
# Every example sets the clock, and undoes its rows.
ONE_WORLD = settings(
    deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

Booked = list[tuple[str, str, int, int]]


def quote_met(minute: int, tenths: int) -> QuoteMet:
    """A quote of some minute after the first hour; its bid in tenths."""
    moment = START + HOUR + timedelta(minutes=minute)
    quote = Quote(
        exchange="binance",
        symbol="BITCOINUSDT",
        best_bid=tenths / 10,
        bid_quantity=0.4,
        best_ask=(tenths + 1) / 10,
        ask_quantity=0.4,
        event_time=moment,
        received_at=moment,
        sequence=minute,
    )
    return QuoteMet(quote=quote)


def bar_met(hour: int, prices: Sequence[int]) -> BarMet:
    """A bar of four prices in tenths."""
    low, opened, close, high = (price / 10 for price in sorted(prices))
    return BarMet(
        open_time=START + hour * HOUR,
        close_time=START + (hour + 1) * HOUR,
        open=opened,
        high=high,
        low=low,
        close=close,
        source="binance",
    )


PRICES = st.integers(930, 1060)
QUOTES = st.lists(
    st.tuples(st.integers(1, 170), PRICES), min_size=2, max_size=6, unique_by=lambda item: item[0]
)
BARS = st.lists(
    st.tuples(st.integers(1, 3), st.tuples(PRICES, PRICES, PRICES, PRICES)),
    max_size=2,
    unique_by=lambda item: item[0],
)


@st.composite
def inputs(draw: st.DrawFn) -> list[Encounter]:
    """Quotes and bars as they come: each when it is known."""
    found: list[Encounter] = [quote_met(*item) for item in draw(QUOTES)]
    found += [bar_met(*item) for item in draw(BARS)]
    return sorted(found, key=lambda met: met.at)


def play(world: Any, deliveries: Sequence[Encounter]) -> Booked:
    """A position with a trailing stop and a target, and orders of every kind beside it, meet the
    inputs; what was booked. All of it is undone."""
    with transaction.atomic():
        world.at(START + timedelta(minutes=30))
        account = create_account(name="played", initial_capital=Decimal(10_000))
        enter(world, account)
        Order.objects.filter(leg="stop_loss").update(kind="trailing_stop", trail_ticks=40)
        Order.objects.filter(leg="take_profit").update(limit_ticks=1045)
        place(world, account, "open", 1, 300, kind="limit", limit_ticks=970, stop_loss=90.0)
        place(
            world,
            account,
            "open",
            1,
            300,
            kind="stop_limit",
            trigger_ticks=1030,
            limit_ticks=1028,
            stop_loss=90.0,
        )
        place(world, account, "close", -1, 700, kind="stop", trigger_ticks=975)
        instrument = Instrument.objects.get(coin_id="bitcoin")
        for met in deliveries:
            work_orders(account_id=account.pk, instrument=instrument, met=met)
        inspect(account)
        booked = list(
            Fill.objects.filter(account=account)
            .order_by("id")
            .values_list("order__leg", "trigger", "price_ticks", "quantity_steps")
        )
        transaction.set_rollback(True)
    return booked


def inspect(account: Account) -> None:
    """The books add up, and nothing was closed that was not held."""
    check(account)
    held = Position.objects.get(account=account)
    assert held.quantity_steps >= 0
    working = Order.objects.filter(account=account, status="working")
    if held.quantity_steps == 0:
        assert not working.exclude(leg="open").exists()
    else:
        asked = working.filter(leg__in=["stop_loss", "take_profit"])
        assert all(order.remaining_steps == held.quantity_steps for order in asked)


@ONE_WORLD
@given(found=inputs(), data=st.data())
def test_what_arrives_again_changes_nothing(world: Any, found: list[Encounter], data: Any) -> None:
    once = play(world, found)
    repeated: list[Encounter] = []
    for place_, met in enumerate(found):
        repeated += [met] * data.draw(st.integers(1, 2))
        repeated += data.draw(st.lists(st.sampled_from(found[: place_ + 1]), max_size=2))
    assert play(world, repeated) == once


@ONE_WORLD
@given(deliveries=inputs().flatmap(st.permutations))
def test_in_any_order_the_books_add_up(world: Any, deliveries: list[Encounter]) -> None:
    play(world, deliveries)


@pytest.mark.django_db(transaction=True)
def test_workers_with_the_same_quote_fill_once(world: Any, account: Account) -> None:
    enter(world, account)
    met = quote_met(1, 940)
    instrument = Instrument.objects.get(coin_id="bitcoin")
    barrier = threading.Barrier(4)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            barrier.wait()
            work_orders(account_id=account.pk, instrument=instrument, met=met)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Fill.objects.filter(order__leg="stop_loss").count() == 1
    inspect(account)
