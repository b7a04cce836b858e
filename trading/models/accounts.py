"""Paper accounts, what they follow, what they were worth, and how their executions went."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models

from signals.catalog import subscription_names
from signals.registry import CONSENSUS
from trading.fields import MoneyField


def default_subscriptions() -> list[str]:
    """A new account follows the consensus alone."""
    return [CONSENSUS]


def validate_subscriptions(names: Any) -> None:
    """Refuse what is not a list of strategies that exist, the consensus of them, or `outside`."""
    if not isinstance(names, list):
        raise ValidationError("not a list of strategies")
    known = subscription_names()
    unknown = [str(name) for name in names if name not in known]
    if unknown:
        raise ValidationError(f"unknown strategy {', '.join(unknown)}; known: {', '.join(known)}")


class Account(models.Model):
    """A paper account. Cash always equals the sum of its ledger entries of the book "cash"."""

    name = models.CharField(max_length=64, unique=True)
    profile = models.OneToOneField(
        "risk.RiskProfile", on_delete=models.PROTECT, related_name="account"
    )
    exchange = models.CharField(max_length=16, default="binance", help_text="where it trades")
    timeframe = models.CharField(max_length=4, default="1h", help_text="whose bar runs it follows")
    subscriptions = models.JSONField(
        default=default_subscriptions,
        blank=True,
        validators=[validate_subscriptions],
        help_text="the strategies that it follows; with none it only keeps what it holds",
    )
    latency_ms = models.PositiveIntegerField(
        default=100,
        validators=[MaxValueValidator(60_000)],
        help_text="market milliseconds from an order to the first quote that it can meet",
    )
    is_pyramiding = models.BooleanField(
        default=False, help_text="a signal in the direction that is held adds to the position"
    )
    initial_capital = MoneyField()
    cash = MoneyField()
    high_water_mark = MoneyField()
    day_start_equity = MoneyField()
    day = models.DateField(help_text="the UTC market day of day_start_equity")
    is_active = models.BooleanField(default=True)
    processed_bar = models.DateTimeField(
        null=True, blank=True, help_text="open time of the last bar run that was executed"
    )
    created_at = models.DateTimeField(help_text="market time")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name


class PendingSignal(models.Model):
    """A signal that met no usable quote yet: at most one per account and instrument.

    Written when the bar run of the signal is executed without a quote, replaced by the next signal
    of the instrument, and deleted in the transaction that fills, refuses or overtakes it.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="pending_signals")
    instrument = models.ForeignKey("collectors.Instrument", on_delete=models.PROTECT)
    signal = models.ForeignKey("signals.Signal", on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["account", "instrument"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "instrument"], name="pending_signal_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.instrument_id}: signal {self.signal_id}"


class MissedBar(models.Model):
    """A bar that an account worked off before its true candle was there, while stops waited.

    Deleted when that candle has come and has met them, or when no stop waits for it any more.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="missed_bars")
    instrument = models.ForeignKey("collectors.Instrument", on_delete=models.CASCADE)
    timeframe = models.CharField(max_length=4)
    open_time = models.DateTimeField()

    class Meta:
        ordering = ["account", "open_time", "instrument"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "instrument", "timeframe", "open_time"], name="missed_bar_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.instrument_id} {self.open_time:%Y-%m-%d %H:%M}"


class EquityPoint(models.Model):
    """The account's worth at one market moment."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="equity_points")
    at = models.DateTimeField(help_text="market time")
    equity = MoneyField()
    cash = MoneyField()
    gross_exposure = MoneyField()

    class Meta:
        ordering = ["-at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "at"], name="equity_point_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.at:%Y-%m-%d %H:%M} {self.equity}"


class AttemptOutcome(models.TextChoices):
    """How the execution of a signal or of a working order ended."""

    DONE = "done"
    FAILED = "failed"


class ExecutionAttempt(models.Model):
    """One execution that was tried: what a person looks at, and what the breaker counts.

    A refusal by risk is done, not failed: failed is what raised, and changed nothing.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="attempts")
    signal = models.ForeignKey(
        "signals.Signal", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    order = models.ForeignKey(
        "trading.Order", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    outcome = models.CharField(max_length=6, choices=AttemptOutcome.choices)
    error = models.CharField(max_length=300, blank=True)
    duration_ms = models.FloatField()
    at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["-id"]
        indexes: ClassVar = [models.Index(fields=["account", "-id"], name="attempt_newest")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "signal"],
                condition=models.Q(outcome="done", signal__isnull=False),
                name="attempt_done_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.at:%Y-%m-%d %H:%M:%S} {self.outcome}"
