"""Stored candles, what they are made of, what they replaced, and what is missing."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from collectors.marketdata import TIMEFRAMES
from collectors.models.instruments import Instrument


class Series(models.Model):
    """One stored series and its revision, raised in the transaction that changes its rows.

    `key` is `candles:{coin_id}:{timeframe}` or `macro:{series_id}`. Caches and recorded inputs
    name a revision, so nothing is ever invalidated by message. `identity` tells the series from
    that of another database, whose revisions say something else.
    """

    key = models.CharField(max_length=120, unique=True)
    revision = models.BigIntegerField(default=0)
    rewritten_revision = models.BigIntegerField(
        default=0, help_text="the last revision that changed, took or inserted earlier rows"
    )
    identity = models.UUIDField(default=uuid.uuid4, editable=False)

    class Meta:
        ordering = ["key"]
        verbose_name_plural = "series"

    def __str__(self) -> str:
        return f"{self.key}@{self.revision}"


class Ohlcv(models.Model):
    """One closed candle, unique by instrument, timeframe and open time; knows its source."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="candles")
    timeframe = models.CharField(max_length=4, choices=[(name, name) for name in TIMEFRAMES])
    open_time = models.DateTimeField()
    open = models.FloatField()
    high = models.FloatField()
    low = models.FloatField()
    close = models.FloatField()
    volume = models.FloatField(null=True, help_text="base units; null where the source has none")
    source = models.CharField(max_length=16)
    is_sampled = models.BooleanField(
        default=False, help_text="built from price samples: no true high and low"
    )
    received_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["instrument", "timeframe", "open_time"]
        verbose_name = "candle"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["instrument", "timeframe", "open_time"], name="ohlcv_unique"
            ),
            models.CheckConstraint(
                name="ohlcv_possible",
                condition=Q(low__gt=0)
                & Q(low__lte=F("open"))
                & Q(low__lte=F("close"))
                & Q(high__gte=F("open"))
                & Q(high__gte=F("close")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instrument} {self.timeframe} {self.open_time:%Y-%m-%d %H:%M}"


class CandleReplacement(models.Model):
    """What a candle said before a better source or a late correction replaced it."""

    candle = models.ForeignKey(Ohlcv, on_delete=models.CASCADE, related_name="replacements")
    old_values = models.JSONField(help_text="open, high, low, close, volume")
    old_source = models.CharField(max_length=16)
    new_source = models.CharField(max_length=16)
    reason = models.CharField(max_length=32)
    replaced_at = models.DateTimeField()

    class Meta:
        ordering = ["-replaced_at"]

    def __str__(self) -> str:
        return f"{self.candle_id}: {self.old_source} -> {self.new_source}"


class HoleLabel(models.TextChoices):
    """Why a closed candle is missing."""

    PENDING = "pending", "pending: will be asked for again"
    NO_TRADE = "no_trade", "no trade: the venue has no bar"
    UNREPAIRABLE = "unrepairable", "unrepairable: no source has it"


class CandleHole(models.Model):
    """A run of missing candles [start, end] (open times, inclusive). Never tradable."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="holes")
    timeframe = models.CharField(max_length=4)
    start = models.DateTimeField()
    end = models.DateTimeField()
    label = models.CharField(max_length=16, choices=HoleLabel.choices)
    detail = models.CharField(max_length=200, blank=True)
    seen_at = models.DateTimeField(help_text="market time")

    class Meta:
        ordering = ["instrument", "timeframe", "start"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["instrument", "timeframe", "start"], name="candle_hole_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instrument} {self.timeframe} {self.start} {self.label}"


class SourceGap(models.Model):
    """A run of bars [start, end] that a source answered it does not have, though a worse one did:
    it is not asked for them again."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="source_gaps")
    timeframe = models.CharField(max_length=4)
    source = models.CharField(max_length=16)
    start = models.DateTimeField(help_text="open time of the first bar")
    end = models.DateTimeField(help_text="open time of the last bar")
    seen_at = models.DateTimeField(help_text="market time")

    class Meta:
        ordering = ["instrument", "timeframe", "source", "start"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["instrument", "timeframe", "source", "start"], name="source_gap_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.instrument} {self.timeframe} {self.start}"


class PriceSample(models.Model):
    """A price that a source without candles gave for one moment; sampled candles are made of
    these, and made again from them."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="samples")
    at = models.DateTimeField(help_text="the source's own time (market time)")
    price = models.FloatField()
    source = models.CharField(max_length=16)
    received_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["instrument", "at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["instrument", "at"], name="price_sample_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.instrument_id} {self.at:%Y-%m-%d %H:%M:%S} {self.price}"
