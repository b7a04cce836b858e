"""Funding settlements of perpetuals."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from collectors.models.instruments import Instrument


class FundingRate(models.Model):
    """One settlement at one exchange, named by its funding time: it happens once."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="funding")
    exchange = models.CharField(max_length=16)
    symbol = models.CharField(max_length=32)
    funding_time = models.DateTimeField(help_text="the exchange's own (market time)")
    rate = models.FloatField(help_text="paid by longs to shorts, a share of the notional")
    mark_price = models.FloatField(null=True, blank=True, help_text="null where not said")
    interval_hours = models.FloatField(
        null=True, blank=True, help_text="since the settlement before, where that is known"
    )
    is_confirmed = models.BooleanField(
        default=True,
        help_text="said by the exchange's history; before that, it is what the stream last saw",
    )
    received_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["instrument", "exchange", "funding_time"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["instrument", "exchange", "funding_time"], name="funding_rate_unique"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["exchange", "funding_time"],
                condition=Q(is_confirmed=False),
                name="funding_rate_unconfirmed",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.exchange}:{self.symbol} {self.funding_time:%Y-%m-%d %H:%M} {self.rate}"
