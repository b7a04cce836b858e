"""Keys with which programs log in: only their hashes are kept."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models


class KeyScope(models.TextChoices):
    """The most that a key may do, whatever its owner may."""

    INGEST = "ingest", "ingest: tell alerts from outside, and nothing else"
    VIEWER = "viewer", "viewer: read"
    OPERATOR = "operator", "operator: also generate, configure, backfill, backtest"
    TRADER = "trader", "trader: everything"


class ApiKey(models.Model):
    """A key of one user's. It does what both its scope and its owner may do."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys"
    )
    name = models.CharField(max_length=64, help_text="which program has it")
    scope = models.CharField(max_length=8, choices=KeyScope.choices)
    prefix = models.CharField(max_length=12, help_text="how the key begins")
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the key")
    created_at = models.DateTimeField(help_text="wall time")
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="wall time; empty: it works until it is revoked"
    )
    revoked_at = models.DateTimeField(null=True, blank=True, help_text="wall time")
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="wall time, to the minute")

    class Meta:
        ordering = ["-id"]
        verbose_name = "API key"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "name"], name="api_key_name_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.scope})"
