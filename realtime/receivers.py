"""What makes the sequencer look: each hint only says that there may be rows to number."""

from __future__ import annotations

from alerts.events import alerts_raised
from realtime import tasks
from signals.events import bar_run_finished, signals_ingested
from trading.events import fills_recorded


def number_new_rows(**_: object) -> None:
    """Ask a worker to number what is due."""
    tasks.number_events.delay()


def connect() -> None:
    """Listen to every event that says rows of a topic were committed."""
    for event in (bar_run_finished, signals_ingested, fills_recorded, alerts_raised):
        event.connect(number_new_rows, dispatch_uid="realtime.number_new_rows")
