"""What an account may do (its risk profile) and what was decided on each request."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from signals.models import Direction


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
    """What somebody changed a limit from and to, or was refused to, and why. Never rewritten.

    A refused change has no new value, but what was asked for as text, and why it may not be.
    """

    profile = models.ForeignKey(RiskProfile, on_delete=models.CASCADE, related_name="changes")
    name = models.CharField(max_length=32)
    strategy = models.CharField(max_length=64, blank=True)
    old_value = models.FloatField(null=True)
    new_value = models.FloatField(null=True)
    asked = models.CharField(max_length=32, blank=True)
    refusal = models.CharField(max_length=200, blank=True)
    changed_by = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.name}: {self.refusal or f'{self.old_value} to {self.new_value}'}"


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
        return f"{self.instrument} {Direction(self.direction).label}: {verdict}"


class StateCause(models.TextChoices):
    """Who or what changed a trading state."""

    PERSON = "person"
    DRAWDOWN = "drawdown"
    DAILY_LOSS = "daily_loss", "daily loss"
    LEDGER_MISMATCH = "ledger_mismatch", "ledger mismatch"
    ERRORS = "errors"
    STALENESS = "staleness"


class Desk(models.Model):
    """What holds for all accounts together, in one row: their trading state, and staleness.

    Staleness is no trading state: while it lasts, entries of all accounts wait, and then go on.
    """

    ONLY = 1

    trading_state = models.CharField(
        max_length=8, choices=TradingState.choices, default=TradingState.ACTIVE
    )
    state_reason = models.CharField(max_length=200, blank=True)
    state_changed_by = models.CharField(max_length=150, blank=True)
    state_changed_at = models.DateTimeField(null=True, blank=True, help_text="wall time")
    is_stale = models.BooleanField(
        default=False, help_text="more than half of what is traded has no fresh price"
    )
    staleness = models.CharField(max_length=200, blank=True, help_text="what is stale, in words")
    turning_since = models.DateTimeField(
        null=True, blank=True, help_text="wall time since which is_stale seems to be wrong"
    )

    class Meta:
        verbose_name_plural = "desk"
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(id=1), name="desk_is_one"),
        ]

    def __str__(self) -> str:
        return "all accounts"


class TradingStateChange(models.Model):
    """One change of a trading state, with what caused it. Append only.

    Without a profile it is the desk's. A change by staleness says what held for entries before and
    after, and leaves the desk's own state as it is.
    """

    profile = models.ForeignKey(
        RiskProfile,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="state_changes",
        help_text="empty: all accounts",
    )
    from_state = models.CharField(max_length=8, choices=TradingState.choices)
    to_state = models.CharField(max_length=8, choices=TradingState.choices)
    cause = models.CharField(max_length=15, choices=StateCause.choices)
    reason = models.CharField(max_length=200)
    by = models.CharField(max_length=150, blank=True, help_text="empty: the machine")
    details = models.JSONField(default=dict, help_text="the figures that it was decided from")
    at = models.DateTimeField(help_text="wall time")
    market_time = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        indexes: ClassVar = [models.Index(fields=["profile", "-id"], name="state_change_newest")]

    def __str__(self) -> str:
        return f"{self.from_state} to {self.to_state} ({self.cause})"
