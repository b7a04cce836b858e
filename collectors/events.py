"""What collectors tell downstream, after commit: hints that carry ids, never data."""

from django.dispatch import Signal

# coin_ids: list[str], timeframe: str
candles_stored = Signal()
# series_ids: list[str]. New vintages are stored, or a due release was looked for and has none.
macro_stored = Signal()
# instrument_ids: list[int]. Funding settlements are stored, corrected or taken back.
funding_stored = Signal()
