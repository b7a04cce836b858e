"""What an account may do (its risk profile) and what was decided on each request."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class TradingState(models.TextChoices):
    """What a profile lets through."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


class RiskProfile(models.Model):
    """The trading state of one account, and whose limits hold. Its row is the account's lock."""

    name = models.CharField(max_length=64, unique=True)
    trading_state = models.CharField(
        max_length=8, choices=TradingState.choices, default=TradingState.ACTIVE
    )
    state_reason = models.CharField(max_length=200, blank=True)
    state_changed_by = models.CharField(max_length=150, blank=True)
    state_changed_at = models.DateTimeField(null=True, blank=True, help_text="wall time")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class RiskLimit(models.Model):
    """The value of one limit of a profile; `risk.declarations` says what it means.

    A row with a strategy holds for that strategy's requests alone.
    """

    profile = models.ForeignKey(RiskProfile, on_delete=models.CASCADE, related_name="limits")
    name = models.CharField(max_length=32)
    strategy = models.CharField(max_length=64, blank=True, help_text="empty: for all")
    value = models.FloatField()
    changed_by = models.CharField(max_length=150, blank=True)
    changed_at = models.DateTimeField(null=True, blank=True, help_text="wall time")

    class Meta:
        ordering = ["profile", "name", "strategy"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["profile", "name", "strategy"], name="risk_limit_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.strategy}".strip()


class RiskLimitChange(models.Model):
    """What somebody changed a limit from and to, and why. Never changed once written."""

    profile = models.ForeignKey(RiskProfile, on_delete=models.CASCADE, related_name="changes")
    name = models.CharField(max_length=32)
    strategy = models.CharField(max_length=64, blank=True)
    old_value = models.FloatField()
    new_value = models.FloatField()
    changed_by = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.name}: {self.old_value:g} to {self.new_value:g}"


class RiskDecision(models.Model):
    """One assessment: what was asked, the scalars it saw, what was decided and why."""

    profile = models.ForeignKey(RiskProfile, on_delete=models.PROTECT, related_name="decisions")
    signal = models.ForeignKey(
        "signals.Signal", null=True, blank=True, on_delete=models.PROTECT, related_name="decisions"
    )
    instrument = models.ForeignKey("collectors.Instrument", on_delete=models.PROTECT)
    direction = models.SmallIntegerField()
    is_approved = models.BooleanField()
    rejection_reason = models.CharField(max_length=64, blank=True)
    risk_level = models.CharField(max_length=8)
    position_size = models.FloatField(help_text="notional in quote units, 0 when refused")
    stop_loss = models.FloatField(null=True)
    take_profit = models.FloatField(null=True)
    warnings = models.JSONField(default=list)
    inputs = models.JSONField(help_text="every scalar that the decision was computed from")
    outputs = models.JSONField(help_text="every scalar that it computed")
    config_snapshot = models.JSONField()
    at = models.DateTimeField(help_text="market time")
    processing_time_ms = models.FloatField()

    class Meta:
        ordering = ["-at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["profile", "signal"],
                condition=models.Q(signal__isnull=False),
                name="risk_decision_unique",
            ),
        ]

    def __str__(self) -> str:
        verdict = "approved" if self.is_approved else self.rejection_reason
        return f"{self.instrument_id} {self.direction:+d}: {verdict}"
