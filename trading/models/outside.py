"""Which signals from outside an account has dealt with."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from trading.models.accounts import Account


class TurnResult(models.TextChoices):
    """What a signal's turn came to."""

    EXECUTED = "executed", "executed: orders, decision or pending signal say how"
    LATE = "late", "late: it only closed"
    OVERTAKEN = "overtaken", "overtaken: a newer one was there"


class OutsideTurn(models.Model):
    """The one turn of a signal from outside at an account that follows them.

    Bar runs are worked off in their order, so a date says how far an account is. What comes from
    outside comes in any order, so each signal is ticked off by a row.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="outside_turns")
    signal = models.ForeignKey("signals.Signal", on_delete=models.PROTECT, related_name="+")
    result = models.CharField(max_length=9, choices=TurnResult.choices)
    at = models.DateTimeField(help_text="market time")

    class Meta:
        ordering = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "signal"], name="outside_turn_once"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.signal_id} {self.result}"
