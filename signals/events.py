"""What signals tell downstream, after commit: hints that carry ids, never data."""

from django.dispatch import Signal

# timeframe: str, bar_open_time: datetime, signal_ids: list[int]
bar_run_finished = Signal()
# signal_ids: list[int], signals from outside
signals_ingested = Signal()
