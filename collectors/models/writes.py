"""The writes over HTTP that were answered, so that the same one asked twice is done once."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models


class AnsweredWrite(models.Model):
    """The answer to one write that came with an `Idempotency-Key`.

    It is committed with what the write did, so there is an answer exactly where there is a deed.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="answered_writes"
    )
    key = models.CharField(max_length=120)
    request_hash = models.CharField(max_length=64, help_text="of method, address and body")
    status = models.PositiveSmallIntegerField(default=0)
    body = models.JSONField(null=True)
    at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "key"], name="write_answered_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["at"], name="write_answered_at")]

    def __str__(self) -> str:
        return f"{self.user_id} {self.key}: {self.status}"
