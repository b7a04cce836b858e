"""What was collected: instruments, their listings, candles, macro releases, provider calls."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from collectors.marketdata import TIMEFRAMES


class Tier(models.TextChoices):
    """How often an instrument is collected."""

    HIGH_FREQUENCY = "high_frequency", "high frequency (15 minutes)"
    HOURLY = "hourly", "hourly"


def default_source_chain() -> list[str]:
    """Every source, best first."""
    return ["binance", "bybit", "coingecko"]


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
    is_enabled = models.BooleanField(default=True, help_text="collected")
    is_strategy_enabled = models.BooleanField(default=True, help_text="offered to strategies")

    class Meta:
        ordering = ["coin_id"]

    def __str__(self) -> str:
        return self.coin_id

    @property
    def timeframes(self) -> tuple[str, ...]:
        """The timeframes that are collected natively."""
        return ("15m", "1h") if self.tier == Tier.HIGH_FREQUENCY else ("1h",)


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


class Series(models.Model):
    """One stored series and its revision, raised in the transaction that changes its rows.

    `key` is `candles:{coin_id}:{timeframe}` or `macro:{series_id}`. Caches and recorded inputs
    name a revision, so nothing is ever invalidated by message.
    """

    key = models.CharField(max_length=120, unique=True)
    revision = models.BigIntegerField(default=0)

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
        return f"{self.instrument_id} {self.timeframe} {self.open_time:%Y-%m-%d %H:%M}"


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
        return f"{self.instrument_id} {self.timeframe} {self.start} {self.label}"


class MacroSeries(models.Model):
    """A macro series as FRED names it."""

    series_id = models.CharField(max_length=25, unique=True)
    name = models.CharField(max_length=120)
    units = models.CharField(max_length=60)
    frequency = models.CharField(max_length=16)
    is_enabled = models.BooleanField(default=True)
    last_success_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="market time of the last answered look"
    )

    class Meta:
        ordering = ["series_id"]
        verbose_name_plural = "macro series"

    def __str__(self) -> str:
        return self.series_id


class MacroObservation(models.Model):
    """One vintage of one observation: what was published for `date`, known from `released_at`."""

    series = models.ForeignKey(MacroSeries, on_delete=models.CASCADE, related_name="observations")
    date = models.DateField(help_text="the period observed, not the release")
    value = models.FloatField()
    realtime_start = models.DateField(help_text="first day of this vintage")
    released_at = models.DateTimeField(help_text="usable from this moment (market time)")
    is_release_assumed = models.BooleanField(default=False)
    received_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["series", "date", "realtime_start"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["series", "date", "realtime_start"], name="macro_observation_unique"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["series", "released_at"])]

    def __str__(self) -> str:
        return f"{self.series_id} {self.date} = {self.value}"


class ProviderCallMinute(models.Model):
    """Calls to one provider endpoint in one minute of market time, summed over all processes."""

    provider = models.CharField(max_length=16)
    endpoint = models.CharField(max_length=64)
    minute = models.DateTimeField(help_text="market time")
    calls = models.PositiveIntegerField(default=0)
    weight = models.PositiveIntegerField(default=0)
    errors = models.PositiveIntegerField(default=0)
    response_ms_total = models.FloatField(default=0.0)

    class Meta:
        ordering = ["-minute", "provider"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider", "endpoint", "minute"], name="provider_call_minute_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.endpoint} {self.minute:%H:%M}: {self.calls}"


class CollectionState(models.Model):
    """How collection of one instrument's timeframe stands; survives restarts."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="states")
    timeframe = models.CharField(max_length=4)
    last_success_at = models.DateTimeField(null=True, blank=True, help_text="market time")
    last_error = models.CharField(max_length=300, blank=True)
    consecutive_failures = models.PositiveIntegerField(default=0)
    attempts = models.PositiveIntegerField(default=0, help_text="never reset: it fences the lease")
    successes = models.PositiveIntegerField(default=0)
    history_from = models.DateTimeField(
        null=True, blank=True, help_text="no source has candles before this open time"
    )
    leased_until = models.DateTimeField(
        null=True, blank=True, help_text="database time; who holds it is asking the providers"
    )

    class Meta:
        ordering = ["instrument", "timeframe"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["instrument", "timeframe"], name="collection_state_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instrument_id} {self.timeframe}"
