"""What people were told: alerts and their deliveries."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class AlertKind(models.TextChoices):
    """The families of alerts, also the first word of an alert file's name."""

    VOLATILITY = "volatility"
    SIGNAL = "signal"
    CORRELATION = "correlation"
    ARBITRAGE = "arbitrage"
    RISK = "risk"
    OPERATIONS = "operations"


class Alert(models.Model):
    """One thing worth telling, raised once per `key`."""

    kind = models.CharField(max_length=12, choices=AlertKind.choices)
    key = models.CharField(max_length=120, unique=True, help_text="what raised it, once")
    asset = models.CharField(max_length=64)
    title = models.CharField(max_length=200)
    payload = models.JSONField(help_text="the body of the alert file")
    at = models.DateTimeField(help_text="market time")
    created_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.title


class DeliveryState(models.TextChoices):
    """Where a delivery stands."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


class Delivery(models.Model):
    """One alert on its way to one transport, under a lease; retried until sent or hopeless."""

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="deliveries")
    transport = models.CharField(max_length=16)
    state = models.CharField(
        max_length=8, choices=DeliveryState.choices, default=DeliveryState.PENDING
    )
    detail = models.CharField(max_length=300, blank=True, help_text="file name or last error")
    sent_at = models.DateTimeField(null=True, help_text="wall time")
    owner = models.CharField(max_length=64, blank=True)
    attempt = models.PositiveIntegerField(default=0, help_text="never reset: it fences the lease")
    failures = models.PositiveIntegerField(default=0, help_text="since the last retry by hand")
    leased_until = models.DateTimeField(null=True)
    next_attempt_at = models.DateTimeField(null=True, help_text="wall time")

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "deliveries"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["alert", "transport"], name="delivery_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.alert_id} {self.transport} {self.state}"
