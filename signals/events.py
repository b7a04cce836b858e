"""What signals tell downstream, after commit: hints that carry ids, never data."""

from django.dispatch import Signal

# timeframe: str, bar_open_time: datetime, signal_ids: list[int]
bar_run_finished = Signal()
