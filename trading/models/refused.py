"""What was asked for so badly that no order or assessment could come of it."""

from __future__ import annotations

from django.db import models

from trading.models.accounts import Account


class RefusedRequest(models.Model):
    """A request that was no order, nothing to assess or no switch to throw, and why."""

    at = models.DateTimeField(db_index=True, help_text="market time")
    account = models.ForeignKey(
        Account, null=True, on_delete=models.CASCADE, related_name="refused_requests"
    )
    address = models.CharField(max_length=200)
    by = models.CharField(max_length=150)
    reason = models.CharField(max_length=300)
    asked = models.CharField(
        max_length=1000, blank=True, help_text="the beginning of what was understood of it"
    )

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.address}: {self.reason}"
