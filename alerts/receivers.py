"""What makes the alerts look: each hint only says that there may be something to tell."""

from __future__ import annotations

from alerts import tasks
from alerts.events import alerts_raised
from risk.events import trading_state_changed
from signals.events import bar_run_finished
from trading.events import decisions_recorded


def look_for_alerts(**_: object) -> None:
    """Ask a worker to raise what is due."""
    tasks.raise_due_alerts.delay()


def deliver_new_alerts(**_: object) -> None:
    """Ask a worker to deliver what waits."""
    tasks.deliver_due.delay()


def connect() -> None:
    """Listen to every event that says something worth telling was committed."""
    for event in (bar_run_finished, decisions_recorded, trading_state_changed):
        event.connect(look_for_alerts, dispatch_uid="alerts.look_for_alerts")
    alerts_raised.connect(deliver_new_alerts, dispatch_uid="alerts.deliver_new_alerts")
