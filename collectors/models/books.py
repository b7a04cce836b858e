"""What exchanges' books looked like, now and then."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from collectors.models.instruments import Instrument


class BookSample(models.Model):
    """The top of one exchange's book at one of its own moments: what trading would have cost."""

    instrument = models.ForeignKey(
        Instrument, on_delete=models.CASCADE, related_name="book_samples"
    )
    exchange = models.CharField(max_length=16)
    symbol = models.CharField(max_length=32)
    at = models.DateTimeField(help_text="the exchange's own time (market time)")
    best_bid = models.FloatField(help_text="quote units")
    bid_quantity = models.FloatField(help_text="base units")
    best_ask = models.FloatField(help_text="quote units")
    ask_quantity = models.FloatField(help_text="base units")
    spread_bps = models.FloatField(help_text="of the mid price; below zero in a crossed book")
    received_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["instrument", "exchange", "at"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["instrument", "exchange", "at"], name="book_sample_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.exchange}:{self.symbol} {self.at:%Y-%m-%d %H:%M:%S} {self.spread_bps:.2f}"
