"""Writing the ledger: one transaction for each event that moved money, its entries summing to zero.

Runs inside the transaction of `locked_account`, and moves the account's cash with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db.models import F, Value

from collectors import clock
from trading.fields import MoneyField, from_units
from trading.models import Account, Book, Fill, LedgerEntry, LedgerTransaction


def post_transaction(
    *,
    account: Account,
    kind: str,
    key: str,
    counter_amounts: Mapping[Book, int],
    at: datetime,
    fill: Fill | None = None,
) -> LedgerTransaction:
    """Book an event: what each book gets (money units, debits positive), and the rest from cash.

    `at` is market time. One transaction per account and key: a second raises IntegrityError.
    """
    change = -sum(counter_amounts.values())
    written = LedgerTransaction.objects.create(
        account=account, kind=kind, key=key, fill=fill, at=at, recorded_at=clock.wall_now()
    )
    LedgerEntry.objects.bulk_create(
        LedgerEntry(transaction=written, account=account, book=book, amount=from_units(amount))
        for book, amount in {Book.CASH: change, **counter_amounts}.items()
        if amount
    )
    moved = from_units(change)
    if change:
        Account.objects.filter(pk=account.pk).update(
            cash=F("cash") + Value(moved, output_field=MoneyField())
        )
        account.cash = account.cash + moved
    return written
