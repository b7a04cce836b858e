"""The ledger: whatever is filled, the books balance to the last unit, and nobody changes them."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trading.models import (
    Account,
    Fill,
    LedgerEntry,
    LedgerTransaction,
    Liquidity,
    Order,
    OrderLeg,
    Position,
    Trade,
)
from trading.orders import MAKER_FEE_PPM, TAKER_FEE_PPM
from trading.services import locked_account, reconcile
from trading.services.booking import Hit, book_fill, position_for
from trading.services.placing import Ticket, place_order
from trading.services.venues import Venue

START = datetime.fromisoformat("2021-05-13T00:30:00+00:00")
UNIT = Fraction(1, 100_000_000)
ONE_WORLD = settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
pytestmark = pytest.mark.django_db

# A tick and a step whose product is finer than a unit of money, so that every fill rounds.
VENUE = Venue(
    exchange="binance",
    symbol="BITCOINUSDT",
    tick_size="0.00001",
    quantity_step="0.00001",
    min_notional=5.0,
)
FILLS = st.lists(
    st.tuples(
        st.sampled_from([1, -1]),
        st.integers(1, 900_000),
        st.integers(1, 5_000_000),
        st.sampled_from([Liquidity.TAKER, Liquidity.MAKER]),
    ),
    min_size=1,
    max_size=12,
)


def fill_all(world: Any, account: Account, fills: list[tuple[int, int, int, str]]) -> None:
    """Book the fills, one order each, whichever way they turn the position."""
    instrument = world.listed("bitcoin")
    for number, (side, steps, ticks, liquidity) in enumerate(fills):
        at = START + timedelta(seconds=number)
        with locked_account(account.pk) as current:
            position = position_for(account=current, instrument=instrument, venue=VENUE)
            opens = position.direction in (0, side)
            ticket = Ticket(leg=OrderLeg.OPEN if opens else OrderLeg.CLOSE, side=side, steps=steps)
            order = place_order(
                account=current, instrument=instrument, venue=VENUE, ticket=ticket, at=at
            )
            book_fill(
                account=current,
                position=position,
                order=order,
                hit=Hit(
                    steps=steps,
                    ticks=ticks,
                    reference_ticks=ticks,
                    slippage_bps=0.0,
                    trigger=f"test:{number}",
                    at=at,
                    bar=START,
                    quote={},
                    liquidity=liquidity,
                ),
            )


@ONE_WORLD
@given(fills=FILLS)
def test_any_sequence_of_fills_balances_to_the_last_unit(
    world: Any, account: Account, fills: list[tuple[int, int, int, str]]
) -> None:
    with transaction.atomic():
        fill_all(world, account, fills)
        account.refresh_from_db()
        books = dict(
            LedgerEntry.objects.order_by().values_list("book").annotate(total=Sum("amount"))
        )
        assert sum(books.values()) == 0
        assert books["cash"] == account.cash
        uneven = LedgerTransaction.objects.annotate(total=Sum("entries__amount")).exclude(total=0)
        assert not uneven.exists()
        assert reconcile(account_id=account.pk).mismatches == ()
        position = Position.objects.get()
        fees = sum(Fill.objects.values_list("fee", flat=True))
        assert account.cash == Decimal(10_000) + position.realised_pnl - fees
        # A round trip's figures and those of the open one are all that was ever booked.
        trades = Trade.objects.aggregate(pnl=Sum("pnl"), fees=Sum("fees"))
        assert (trades["pnl"] or 0) + position.round_pnl == position.realised_pnl
        assert (trades["fees"] or 0) + position.round_fees == fees
        transaction.set_rollback(True)


@ONE_WORLD
@given(fills=FILLS)
def test_flips_and_partials_agree_with_exact_fractions(
    world: Any, account: Account, fills: list[tuple[int, int, int, str]]
) -> None:
    """Within one unit for each operation: a fee, what is closed and what is opened."""
    worth = Fraction(VENUE.tick_size) * Fraction(VENUE.quantity_step)
    cash, quantity, cost = Fraction(10_000), Fraction(0), Fraction(0)
    for side, steps, ticks, liquidity in fills:
        rates = MAKER_FEE_PPM if liquidity == Liquidity.MAKER else TAKER_FEE_PPM
        cash -= steps * ticks * worth * Fraction(rates["binance"], 1_000_000)
        signed = side * steps
        closing = min(steps, abs(quantity)) * side if quantity * side < 0 else 0
        if closing:
            given_up = cost * abs(closing) / abs(quantity)
            cash += -closing * ticks * worth - given_up
            cost -= given_up
        cost += (signed - closing) * ticks * worth
        quantity += signed
    with transaction.atomic():
        fill_all(world, account, fills)
        account.refresh_from_db()
        position = Position.objects.get()
        assert position.quantity_steps == quantity
        # What is open and what is booked together: a unit for the fee and two for each fill.
        found = Fraction(account.cash) + Fraction(position.total_cost)
        assert abs(found - (cash + cost)) <= 3 * len(fills) * UNIT
        transaction.set_rollback(True)


def test_what_is_booked_cannot_be_changed_or_deleted(world: Any, account: Account) -> None:
    fill_all(world, account, [(1, 100_000, 1_000_000, Liquidity.TAKER)])
    for change in (
        lambda: Fill.objects.update(fee=Decimal(0)),
        lambda: LedgerEntry.objects.update(amount=F("amount") + 1),
        lambda: LedgerEntry.objects.all().delete(),
        lambda: LedgerTransaction.objects.update(key="another"),
    ):
        with pytest.raises(IntegrityError, match="append only"), transaction.atomic():
            change()
    assert reconcile(account_id=account.pk).mismatches == ()


def test_entries_that_do_not_add_up_are_not_committed(account: Account) -> None:
    written = LedgerTransaction.objects.get(key="deposit")
    with pytest.raises(IntegrityError, match="does not add up"), transaction.atomic():
        LedgerEntry.objects.create(
            transaction=written, account=account, book="fees", amount=Decimal(1)
        )
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def test_the_same_event_is_booked_once(world: Any, account: Account) -> None:
    fill_all(world, account, [(1, 100_000, 1_000_000, Liquidity.TAKER)])
    order = Order.objects.get(leg="open")
    Order.objects.filter(pk=order.pk).update(quantity_steps=200_000, status="working")
    order.refresh_from_db()
    with pytest.raises(IntegrityError), locked_account(account.pk) as current:
        position = position_for(account=current, instrument=order.instrument, venue=VENUE)
        hit = Hit(
            steps=100_000,
            ticks=1_000_000,
            reference_ticks=1_000_000,
            slippage_bps=0.0,
            trigger="test:0",
            at=START,
            bar=START,
            quote={},
        )
        book_fill(account=current, position=position, order=order, hit=hit)
    assert Fill.objects.count() == 1
    assert reconcile(account_id=account.pk).mismatches == ()
