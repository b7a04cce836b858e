"""Macro series and every vintage of their observations."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


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
    last_error = models.CharField(max_length=300, blank=True, editable=False)
    consecutive_failures = models.PositiveIntegerField(default=0, editable=False)
    retry_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="market time; not asked for before"
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
