"""Which stream process holds which instruments."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from collectors.owners import LONGEST


class StreamShard(models.Model):
    """A share of the instruments (see `collectors.sharding`), streamed by its owner alone for as
    long as the lease lasts."""

    number = models.PositiveSmallIntegerField(unique=True, help_text="from 0")
    spread = models.PositiveSmallIntegerField(
        help_text="over how many shards the instruments are spread; the same in all rows"
    )
    owner = models.CharField(
        max_length=LONGEST, blank=True, help_text="host/boot/namespace/pid/start/token"
    )
    attempt = models.PositiveBigIntegerField(
        default=0, help_text="never reset: it fences the lease"
    )
    leased_until = models.DateTimeField(null=True, blank=True, help_text="database time")

    class Meta:
        ordering = ["number"]

    def __str__(self) -> str:
        return f"{self.number} of {self.spread}"


class StreamProcess(models.Model):
    """A stream process that is alive, whether it holds shards or not: who holds them all learns
    of a newcomer from its row."""

    owner = models.CharField(
        max_length=LONGEST, unique=True, help_text="host/boot/namespace/pid/start/token"
    )
    leased_until = models.DateTimeField(help_text="database time")

    class Meta:
        ordering: ClassVar = ["owner"]
        verbose_name_plural = "stream processes"

    def __str__(self) -> str:
        return self.owner
