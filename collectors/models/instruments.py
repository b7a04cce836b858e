"""What is collected: instruments and what they are called at the exchanges."""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F

# Timeframes that are asked for; longer ones are made from them.
NATIVE_TIMEFRAMES = ("15m", "1h")
DERIVED_TIMEFRAMES = {"4h": "1h", "1d": "1h"}


class Tier(models.TextChoices):
    """How often an instrument is collected."""

    HIGH_FREQUENCY = "high_frequency", "high frequency (15 minutes)"
    HOURLY = "hourly", "hourly"


def default_source_chain() -> list[str]:
    """Every source, best first."""
    return ["binance", "bybit", "coingecko"]


def default_timeframes() -> list[str]:
    """What an hourly instrument is collected in."""
    return ["1h"]


def check_timeframes(value: object) -> None:
    """Raises ValidationError unless `value` lists native timeframes, the hour among them: it is
    what every instrument is compared and traded by."""
    if not isinstance(value, list) or not set(map(str, value)) <= set(NATIVE_TIMEFRAMES):
        raise ValidationError(f"a list of some of {', '.join(NATIVE_TIMEFRAMES)}")
    if "1h" not in value or len(set(value)) != len(value):
        raise ValidationError("1h is always collected, and each timeframe is named once")


class Instrument(models.Model):
    """A linear perpetual (or a coin that only CoinGecko knows), named by its CoinGecko id."""

    coin_id = models.SlugField(max_length=64, unique=True, help_text="CoinGecko id")
    symbol = models.CharField(max_length=16, help_text="ticker, upper case")
    name = models.CharField(max_length=64)
    sector = models.CharField(max_length=32)
    tier = models.CharField(max_length=16, choices=Tier.choices, default=Tier.HOURLY)
    source_chain = models.JSONField(
        default=default_source_chain, help_text="candle sources, best first"
    )
    timeframes = models.JSONField(
        default=default_timeframes,
        validators=[check_timeframes],
        help_text='timeframes that are asked for, such as ["15m", "1h"]; 4h and 1d are derived',
    )
    is_enabled = models.BooleanField(default=True, help_text="collected")
    is_strategy_enabled = models.BooleanField(default=True, help_text="offered to strategies")

    class Meta:
        ordering = ["coin_id"]

    def __str__(self) -> str:
        return self.coin_id


class Listing(models.Model):
    """An instrument's symbol at one exchange while it was valid, with its price grid.

    `valid_from` is inclusive and `valid_to` exclusive; null means unbounded.
    """

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="listings")
    exchange = models.CharField(max_length=16)
    symbol = models.CharField(max_length=32)
    valid_from = models.DateTimeField(null=True, blank=True)
    valid_to = models.DateTimeField(null=True, blank=True)
    tick_size = models.CharField(max_length=24, help_text="decimal string, quote units")
    quantity_step = models.CharField(max_length=24, help_text="decimal string, base units")
    min_notional = models.CharField(max_length=24, default="5", help_text="quote units")
    is_trading = models.BooleanField(
        default=True, editable=False, help_text="as the exchange's list said last"
    )

    class Meta:
        # Databases disagree where a missing beginning belongs.
        ordering = ["instrument", "exchange", F("valid_from").asc(nulls_first=True)]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["instrument", "exchange", "symbol"], name="listing_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.exchange}:{self.symbol}"
