"""How collection stands: calls, states, backfills, findings, retention."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models

from collectors.models.instruments import Instrument
from collectors.models.macro import MacroSeries


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


class ProviderBlock(models.Model):
    """Until when a provider told us to stay away: a ban must outlive the memory it is kept in."""

    provider = models.CharField(max_length=16, unique=True)
    until = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["provider"]

    def __str__(self) -> str:
        return f"{self.provider} until {self.until:%Y-%m-%d %H:%M:%S}"


class CollectionState(models.Model):
    """How collection of one instrument's timeframe stands; survives restarts."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="states")
    timeframe = models.CharField(max_length=4)
    last_success_at = models.DateTimeField(null=True, blank=True, help_text="market time")
    last_error = models.CharField(max_length=300, blank=True)
    consecutive_failures = models.PositiveIntegerField(default=0)
    attempts = models.PositiveIntegerField(default=0, help_text="never reset: it fences the lease")
    successes = models.PositiveIntegerField(default=0)
    response_ms = models.FloatField(
        null=True, blank=True, help_text="mean time of a source's answer in the last collection"
    )
    next_due_at = models.DateTimeField(
        null=True, blank=True, help_text="market time at which the next candle is closed"
    )
    history_from = models.DateTimeField(
        null=True, blank=True, help_text="no source has candles before this open time"
    )
    asked_sources = models.JSONField(
        default=list,
        blank=True,
        help_text="whose answers the holes' labels and the begin of the history rest on",
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
        return f"{self.instrument} {self.timeframe}"

    @property
    def success_rate(self) -> float | None:
        """The share of collections that every asked source answered; None before the first."""
        return self.successes / self.attempts if self.attempts else None


class FindingVerdict(models.TextChoices):
    """What was done with a doubtful value."""

    REJECTED = "rejected", "rejected: not stored"
    FLAGGED = "flagged", "flagged: stored"


class QualityFinding(models.Model):
    """A value that was rejected or flagged, and why; the same finding is counted, not repeated."""

    verdict = models.CharField(max_length=8, choices=FindingVerdict.choices)
    reason = models.CharField(max_length=64)
    subject = models.CharField(max_length=120, help_text="the series' key, as in Series")
    instrument = models.ForeignKey(
        Instrument, null=True, blank=True, on_delete=models.CASCADE, related_name="findings"
    )
    macro_series = models.ForeignKey(
        MacroSeries, null=True, blank=True, on_delete=models.CASCADE, related_name="findings"
    )
    at = models.DateTimeField(help_text="open time or observation date, else when it was seen")
    source = models.CharField(max_length=16)
    values = models.JSONField(help_text="what the source said")
    times = models.PositiveIntegerField(default=1)
    first_seen_at = models.DateTimeField(help_text="market time")
    last_seen_at = models.DateTimeField(help_text="market time")

    class Meta:
        ordering = ["-last_seen_at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["subject", "source", "reason", "at"], name="quality_finding_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject} {self.reason}"


class BackfillState(models.TextChoices):
    """Where a backfill stands."""

    QUEUED = "queued", "queued"
    RUNNING = "running", "running"
    DONE = "done", "done"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"


class Backfill(models.Model):
    """A wish for the candles of [start, end), worked off in chunks; resumed where it stood."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="backfills")
    timeframe = models.CharField(max_length=4)
    start = models.DateTimeField(help_text="first open time, inclusive")
    end = models.DateTimeField(help_text="exclusive")
    state = models.CharField(
        max_length=10, choices=BackfillState.choices, default=BackfillState.QUEUED
    )
    position = models.DateTimeField(help_text="everything before has been asked for")
    stored = models.PositiveBigIntegerField(default=0)
    requests = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=300, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )
    attempt = models.PositiveIntegerField(default=0, help_text="fences the lease")
    leased_until = models.DateTimeField(null=True, blank=True, help_text="database time")
    created_at = models.DateTimeField(help_text="wall time")
    finished_at = models.DateTimeField(null=True, blank=True, help_text="wall time")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.instrument} {self.timeframe} {self.start:%Y-%m-%d} {self.state}"

    @property
    def progress_pct(self) -> float:
        """How much of the span has been asked for."""
        if self.state == BackfillState.DONE or self.end <= self.start:
            return 100.0
        return round(100 * ((self.position - self.start) / (self.end - self.start)), 1)


class RetentionPolicy(models.Model):
    """For how long rows of one kind are kept in the database, and whether they are archived."""

    kind = models.CharField(max_length=40, unique=True)
    keep_days = models.PositiveIntegerField(
        null=True, blank=True, help_text="market days; empty keeps for ever"
    )
    is_archived = models.BooleanField(default=True, help_text="written to the nightly archive")
    archived_through = models.DateField(
        null=True, blank=True, help_text="the last market day in the archive"
    )
    pruned_before = models.DateTimeField(null=True, blank=True, help_text="market time")

    class Meta:
        ordering = ["kind"]
        verbose_name_plural = "retention policies"

    def __str__(self) -> str:
        return self.kind
