"""Reconciliation: whatever does not agree with what is booked is found, told, and halts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from alerts.models import Alert
from alerts.services import raise_due_alerts
from collectors.models import FundingRate, Instrument
from risk.models import TradingState
from tests.trading.books import book
from trading.models import (
    Account,
    Fill,
    FundingPayment,
    LedgerEntry,
    LedgerMismatch,
    LedgerTransaction,
    Order,
    Position,
    Trade,
)
from trading.services import create_account, pay_funding, reconcile

NOON = datetime.fromisoformat("2021-05-13T12:00:00+00:00")
MINUTE = timedelta(minutes=1)
pytestmark = pytest.mark.django_db


@pytest.fixture
def traded(world: Any, account: Account) -> Account:
    """Two instruments, a round trip with funding, a flip, and something held."""
    world.at(NOON + 60 * MINUTE)
    bitcoin, ether = world.listed("bitcoin"), world.listed("ethereum")
    FundingRate.objects.create(
        instrument=bitcoin,
        exchange="binance",
        symbol="BITCOINUSDT",
        funding_time=NOON + 2 * MINUTE,
        rate=0.0003,
        mark_price=100.0,
        received_at=NOON,
    )
    for minute, instrument, steps, ticks in (
        (0, bitcoin, 500, 1001),
        (1, bitcoin, 211, 1003),
        (3, bitcoin, -300, 1017),
        (4, ether, -77, 333),
        (5, bitcoin, -411, 999),
        (6, ether, 177, 331),
    ):
        book(account, instrument, steps, ticks, NOON + minute * MINUTE)
    pay_funding()
    assert Trade.objects.count() == 2 and FundingPayment.objects.count() == 1
    return account


def subjects(account: Account) -> list[str]:
    return [each.subject for each in reconcile(account_id=account.pk).differences]


def test_whole_books_have_no_differences_and_nothing_is_locked(traded: Account) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert reconcile(account_id=traded.pk).differences == ()
    locked = [query["sql"] for query in queries if "FOR UPDATE" in query["sql"]]
    assert locked == []
    traded.profile.refresh_from_db()
    assert traded.profile.trading_state == TradingState.ACTIVE
    assert not LedgerMismatch.objects.exists()


def unguarded(change: Callable[[], Any]) -> Callable[[], Any]:
    """The change, by somebody who switches the database's own guard off."""

    def changed() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what was written before is whole
            cursor.execute("SET session_replication_role = replica")
            change()
            cursor.execute("SET session_replication_role = origin")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")

    return changed


def first(model: Any, **where: Any) -> Any:
    """The oldest row, to be changed."""
    return model.objects.filter(pk=model.objects.filter(**where).order_by("pk").first().pk)


FAULTS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "cash": (lambda: Account.objects.update(cash=Decimal(1)), ["cash of the account"]),
    "position": (
        lambda: Position.objects.filter(instrument__coin_id="ethereum").update(quantity_steps=1),
        ["position in instrument"],
    ),
    "cost": (
        lambda: Position.objects.filter(instrument__coin_id="ethereum").update(total_cost=0),
        ["position in instrument"],
    ),
    "order": (
        lambda: first(Order).update(filled_steps=499),
        ["steps filled of order"],
    ),
    "order that is not done": (
        lambda: first(Order).update(quantity_steps=501),
        ["steps filled of order"],
    ),
    "trade": (lambda: first(Trade).update(pnl=0), ["PnL of the round trips"]),
    "funding of a trade": (lambda: first(Trade).update(funding=0), ["funding of the round trips"]),
    "funding": (
        lambda: FundingPayment.objects.update(amount=Decimal(1)),
        ["funding payments", "funding of the round trips"],
    ),
    "fee of a fill": (
        unguarded(lambda: first(Fill).update(fee=Decimal(7))),
        ["fees of the fills", "fee of fill:", "fees of the round trips"],
    ),
    "realised PnL of a fill": (
        unguarded(lambda: first(Fill).update(realised_pnl=Decimal(7))),
        ["realised PnL of fill:", "realised PnL of fill "],
    ),
    "an entry": (
        unguarded(lambda: LedgerEntry.objects.filter(book="fees").update(amount=Decimal(9))),
        ["sum of all entries", "fees of the fills", "sum of transaction fill:", "fee of fill:"],
    ),
    "a fill without its transaction": (
        unguarded(lambda: first(LedgerTransaction, kind="fill").update(fill=None)),
        ["transactions of fill"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found_and_halts(traded: Account, fault: str) -> None:
    change, expected = FAULTS[fault]
    change()
    found = subjects(traded)
    for subject in expected:
        assert any(each.startswith(subject) for each in found), found
    traded.profile.refresh_from_db()
    assert traded.profile.trading_state == TradingState.HALTED


def test_a_mismatch_is_told_once_also_of_an_account_that_is_halted(
    traded: Account, settings: Any
) -> None:
    traded.profile.trading_state = TradingState.HALTED
    traded.profile.save()
    Account.objects.update(cash=Account.objects.get().cash + Decimal(1))
    for _ in range(2):
        reconcile(account_id=traded.pk)
        book(traded, Instrument.objects.get(coin_id="bitcoin"), 5, 1000, NOON + 50 * MINUTE)
    mismatch = LedgerMismatch.objects.get()
    assert mismatch.last_seen_at > mismatch.first_seen_at
    for _ in range(2):
        raise_due_alerts()
    alert = Alert.objects.get(key=f"ledger_mismatch:{mismatch.pk}")
    assert alert.kind == "risk" and "cash of the account" in alert.title
    assert alert.payload["mismatches"] == mismatch.found


def test_another_account_is_not_concerned(traded: Account, world: Any) -> None:
    other = create_account(name="other", initial_capital=Decimal(5000))
    book(other, world.listed("bitcoin"), 10, 1000, NOON + 50 * MINUTE)
    Account.objects.filter(pk=other.pk).update(cash=Decimal(1))
    assert subjects(traded) == []
    assert subjects(other) == ["cash of the account"]
