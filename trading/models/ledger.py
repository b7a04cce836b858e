"""The ledger: every movement of money, twice, for ever.

Append only: where the database can (PostgreSQL and SQLite both do), triggers refuse to change or
delete what is written, and PostgreSQL refuses to commit a transaction whose entries do not add up
to zero.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from trading.fields import MoneyField
from trading.models.accounts import Account
from trading.models.orders import Fill


class TransactionKind(models.TextChoices):
    """What moved the money."""

    DEPOSIT = "deposit"
    FILL = "fill"
    FUNDING = "funding"


class Book(models.TextChoices):
    """Where money is, came from or went to."""

    CASH = "cash"
    CAPITAL = "capital"
    FEES = "fees"
    FUNDING = "funding"
    REALISED_PNL = "realised_pnl"


class LedgerTransaction(models.Model):
    """One event that moved money; its entries sum to zero.

    `key` names the event within the account (`deposit`, `fill:12`, `funding:7`), so it is booked
    once however often it is told.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="transactions")
    kind = models.CharField(max_length=8, choices=TransactionKind.choices)
    key = models.CharField(max_length=64)
    fill = models.OneToOneField(
        Fill, null=True, blank=True, on_delete=models.PROTECT, related_name="transaction"
    )
    at = models.DateTimeField(help_text="market time")
    recorded_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "key"], name="transaction_once"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.key}"


class LedgerMismatch(models.Model):
    """What a reconciliation found wrong in an account, once however often it is found."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="mismatches")
    fingerprint = models.CharField(max_length=32, help_text="of what was found")
    found = models.JSONField(help_text="in words, one for each thing that does not add up")
    at = models.DateTimeField(help_text="market time of the first time")
    first_seen_at = models.DateTimeField(help_text="wall time")
    last_seen_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["-last_seen_at"]
        verbose_name_plural = "ledger mismatches"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "fingerprint"], name="mismatch_once"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id}: {len(self.found)} mismatches"


class LedgerEntry(models.Model):
    """One side of a transaction. A positive amount is a debit: cash that came, a fee that went."""

    transaction = models.ForeignKey(
        LedgerTransaction, on_delete=models.PROTECT, related_name="entries"
    )
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="entries")
    book = models.CharField(max_length=12, choices=Book.choices)
    amount = MoneyField()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "ledger entries"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["transaction", "book"], name="entry_once_per_book"),
            models.CheckConstraint(condition=~Q(amount=0), name="entry_not_empty"),
        ]

    def __str__(self) -> str:
        return f"{self.book} {self.amount}"
