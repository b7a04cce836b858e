"""What an account may do (its risk profile) and what was decided on each request."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

FRACTION = [MinValueValidator(0.0001), MaxValueValidator(1.0)]


class TradingState(models.TextChoices):
    """What a profile lets through."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


class RiskProfile(models.Model):
    """The limits and the trading state of one account. Its row is the account's lock."""

    name = models.CharField(max_length=64, unique=True)
    trading_state = models.CharField(
        max_length=8, choices=TradingState.choices, default=TradingState.ACTIVE
    )
    state_reason = models.CharField(max_length=200, blank=True)
    state_changed_by = models.CharField(max_length=150, blank=True)
    state_changed_at = models.DateTimeField(null=True, blank=True, help_text="wall time")
    max_position_size = models.FloatField(default=0.10, validators=FRACTION)
    max_portfolio_risk = models.FloatField(default=0.25, validators=FRACTION)
    max_drawdown = models.FloatField(default=0.20, validators=FRACTION)
    max_daily_loss = models.FloatField(default=0.05, validators=FRACTION)
    max_leverage = models.FloatField(default=1.0, validators=[MinValueValidator(0.1)])
    max_open_positions = models.PositiveIntegerField(default=10)
    min_confidence = models.FloatField(default=0.5, validators=FRACTION)
    min_notional = models.FloatField(default=10.0, validators=[MinValueValidator(0.0)])
    base_size = models.FloatField(
        default=0.02, validators=FRACTION, help_text="fraction of equity at full confidence"
    )
    default_stop = models.FloatField(
        default=0.02, validators=FRACTION, help_text="stop distance as a fraction of entry"
    )
    reward_risk_ratio = models.FloatField(default=2.0, validators=[MinValueValidator(0.1)])

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


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
