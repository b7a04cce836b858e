"""The one way to change a strategy's row: locked, saved, and with a record of what changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

from collectors import clock
from signals.models import StrategyChange, StrategyConfig

SYSTEM = "system"


@contextmanager
def changing(*, name: str, by: str) -> Iterator[StrategyConfig]:
    """The strategy's row under its lock; what the block changes of it is saved at its end, and
    recorded as done by `by`. One transaction: nothing is changed when the block raises."""
    with transaction.atomic():
        config = StrategyConfig.objects.select_for_update().get(name=name)
        before = _settings(config)
        yield config
        config.save()
        changes = {
            what: {"old": before[what], "new": value}
            for what, value in _settings(config).items()
            if value != before[what]
        }
        if changes:
            StrategyChange.objects.create(
                strategy=config, at=clock.wall_now(), by=by, changes=changes
            )


def _settings(config: StrategyConfig) -> dict[str, Any]:
    """What of a strategy is recorded; a certificate is told from another by its hash."""
    return {
        "is_enabled": config.is_enabled,
        "parameters": dict(config.parameters),
        "weight": config.weight,
        "assets": list(config.assets),
        "certificate": " ".join(
            part for part in (config.certificate_verdict, config.certificate_hash[:12]) if part
        ),
        "file": " ".join(part for part in (config.file_hash[:12], config.load_error) if part),
    }
