"""What trading hears from upstream: each hint only enqueues the task that looks for itself."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from signals.events import bar_run_finished
from trading import tasks


@receiver(bar_run_finished, dispatch_uid="trading.bar_run_finished")
def advance_on_bar_run(**_: Any) -> None:
    """A bar run is there: work it off."""
    tasks.advance_accounts.delay()
