"""What collectors tell downstream, after commit: hints that carry ids, never data."""

from django.dispatch import Signal

# coin_ids: list[str], timeframe: str
candles_stored = Signal()
# series_ids: list[str]
macro_stored = Signal()
