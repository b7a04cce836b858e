"""What exchanges' books looked like, now and then and hour by hour, and when they were down."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from collectors.models.instruments import Instrument


class BookSample(models.Model):
    """The top of one exchange's book at one of its own moments: what trading would have cost.

    What is known of a synchronised book only is null where the book was withheld, and the top is
    the newest that the exchange had said by itself.
    """

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
    is_synced = models.BooleanField(default=False, help_text="taken from a synchronised book")
    mid_price = models.FloatField(null=True, blank=True, help_text="quote units")
    imbalance = models.FloatField(
        null=True, blank=True, help_text="-1 (only asks) to 1 (only bids) over the served levels"
    )
    bid_depth_10_bps = models.FloatField(
        null=True, blank=True, help_text="quote units bid within 10 bps of the mid price"
    )
    ask_depth_10_bps = models.FloatField(
        null=True, blank=True, help_text="quote units asked within 10 bps of the mid price"
    )
    bid_depth_50_bps = models.FloatField(
        null=True, blank=True, help_text="quote units bid within 50 bps of the mid price"
    )
    ask_depth_50_bps = models.FloatField(
        null=True, blank=True, help_text="quote units asked within 50 bps of the mid price"
    )
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


class BookHour(models.Model):
    """One hour of one followed book: sums over what the processes that followed it have seen.

    Means are weighted by time, the spread's by the time that the book was synchronised, a depth's
    by the time that the book reached that far. Null where there was no such time.
    """

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="book_hours")
    exchange = models.CharField(max_length=16)
    symbol = models.CharField(max_length=32)
    hour = models.DateTimeField(help_text="its beginning (market time)")
    synced_s = models.FloatField(help_text="market seconds in which the book was synchronised")
    withheld_s = models.FloatField(help_text="market seconds in which it was not to be had")
    spread_bps_mean = models.FloatField(null=True, blank=True)
    spread_bps_min = models.FloatField(null=True, blank=True)
    spread_bps_max = models.FloatField(null=True, blank=True)
    bid_depth_10_bps = models.FloatField(null=True, blank=True, help_text="mean, quote units")
    ask_depth_10_bps = models.FloatField(null=True, blank=True, help_text="mean, quote units")
    depth_10_bps_s = models.FloatField(help_text="market seconds with a depth within 10 bps")
    bid_depth_50_bps = models.FloatField(null=True, blank=True, help_text="mean, quote units")
    ask_depth_50_bps = models.FloatField(null=True, blank=True, help_text="mean, quote units")
    depth_50_bps_s = models.FloatField(help_text="market seconds with a depth within 50 bps")
    messages = models.BigIntegerField()
    gaps = models.IntegerField(help_text="times that continuity was broken")
    resyncs = models.IntegerField(help_text="times that the book was made anew")
    changed_at = models.DateTimeField(help_text="wall time of the last addition")

    class Meta:
        ordering = ["instrument", "exchange", "symbol", "hour"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["instrument", "exchange", "symbol", "hour"], name="book_hour_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.exchange}:{self.symbol} {self.hour:%Y-%m-%d %H:%M}"


class BookDowntime(models.Model):
    """A while in which a followed book was withheld. It lasts while `ended_at` is null."""

    instrument = models.ForeignKey(
        Instrument, on_delete=models.CASCADE, related_name="book_downtimes"
    )
    exchange = models.CharField(max_length=16)
    symbol = models.CharField(max_length=32)
    at = models.DateTimeField(help_text="market time of its beginning")
    began_at = models.DateTimeField(help_text="wall time")
    ended_at = models.DateTimeField(null=True, blank=True, help_text="wall time")
    reason = models.CharField(max_length=200)
    changed_at = models.DateTimeField(help_text="wall time of the last change")

    class Meta:
        ordering = ["instrument", "exchange", "began_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["instrument", "exchange", "symbol", "began_at"],
                name="book_downtime_unique",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["exchange", "symbol"],
                condition=Q(ended_at__isnull=True),
                name="book_downtime_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.exchange}:{self.symbol} {self.began_at:%Y-%m-%d %H:%M:%S} {self.reason}"

    @property
    def seconds(self) -> float | None:
        """How long it lasted (wall seconds); None while it does."""
        return (self.ended_at - self.began_at).total_seconds() if self.ended_at else None
