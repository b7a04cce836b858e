"""What trading hears from upstream: each hint only enqueues the task that looks for itself."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from collectors.events import funding_stored
from signals.events import bar_run_finished, signals_ingested
from trading import tasks
from trading.events import orders_placed
from trading.watching import say_orders_changed


@receiver(bar_run_finished, dispatch_uid="trading.bar_run_finished")
def advance_on_bar_run(**_: Any) -> None:
    """A bar run is there: work it off."""
    tasks.advance_accounts.delay()


@receiver(signals_ingested, dispatch_uid="trading.signals_ingested")
def follow_signals_from_outside(**_: Any) -> None:
    """Something was said outside: give it its turn."""
    tasks.execute_outside_signals.delay()


@receiver(funding_stored, dispatch_uid="trading.funding_stored")
def pay_on_settlements(instrument_ids: list[int], **_: Any) -> None:
    """Settlements are new, or other than they were: look who held the instruments."""
    tasks.pay_funding.delay(instrument_ids)


@receiver(orders_placed, dispatch_uid="trading.orders_placed")
def watch_for_orders(**_: Any) -> None:
    """Orders wait for quotes: whoever watches those reads the rows now, not in a second."""
    say_orders_changed()
