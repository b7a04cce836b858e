"""What programs outside told: each alert with its verdict, and the files that were looked at."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from signals.models.said import Signal


class AlertVerdict(models.TextChoices):
    """What became of an alert."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


class AlertOrigin(models.TextChoices):
    """The way it came."""

    API = "api", "HTTP"
    FILE = "file"


class OutsideAlert(models.Model):
    """An alert from outside as it came, and the verdict. Never changed once written.

    An accepted one is kept by what it says (`signals.proposals.alert_key`), so it is taken once
    however it comes. A refused one is kept by its bytes, so a corrected one is judged anew.
    """

    key = models.CharField(max_length=200, unique=True)
    verdict = models.CharField(max_length=8, choices=AlertVerdict.choices)
    reason = models.CharField(max_length=300, blank=True, help_text="why it was refused")
    asset = models.CharField(max_length=64, blank=True, help_text="as it is called in the alert")
    signal_type = models.CharField(max_length=8, blank=True)
    at = models.DateTimeField(null=True, help_text="market time that it speaks of")
    payload = models.TextField(
        blank=True, help_text="as it came; of what was refused the beginning"
    )
    signal = models.OneToOneField(
        Signal, null=True, on_delete=models.PROTECT, related_name="outside_alert"
    )
    origin = models.CharField(max_length=4, choices=AlertOrigin.choices)
    folder = models.TextField(blank=True)
    file_name = models.TextField(blank=True)
    received_by = models.CharField(max_length=150, blank=True, help_text="the login that sent it")
    received_at = models.DateTimeField(db_index=True, help_text="wall time")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.asset} {self.signal_type} {self.verdict}"


class AlertFileState(models.TextChoices):
    """How far a file is known."""

    WAITING = "waiting", "waiting: it may still be being written"
    JUDGED = "judged"


class AlertFile(models.Model):
    """A file of a watched folder in the version that was last looked at, so that it is not read
    again. Forgotten once it is gone from the folder."""

    folder = models.CharField(max_length=700)
    name = models.CharField(max_length=1020, help_text="bytes that are no UTF-8 are escaped")
    size = models.BigIntegerField()
    modified_ns = models.BigIntegerField(help_text="since 1970, by the file system")
    state = models.CharField(max_length=7, choices=AlertFileState.choices)
    result = models.CharField(max_length=300, blank=True, help_text="its verdict, or what it lacks")
    seen_at = models.DateTimeField(help_text="wall time at which this version was first seen")

    class Meta:
        ordering = ["folder", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["folder", "name"], name="alert_file_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.state}"
