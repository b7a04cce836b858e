"""What changes the collected data. The other modules of this package are its parts."""

from collectors.seeds import seed_instruments, seed_macro_series
from collectors.services.calls import flush_provider_calls
from collectors.services.candles import StoreResult, store_candles, store_market
from collectors.services.coverage import default_history_start, ensure_coverage
from collectors.services.findings import keep_possible, record_findings
from collectors.services.macro import collect_macro
from collectors.services.search import EARLIEST, Coverage, served_from

__all__ = [
    "EARLIEST",
    "Coverage",
    "StoreResult",
    "collect_macro",
    "default_history_start",
    "ensure_coverage",
    "flush_provider_calls",
    "keep_possible",
    "record_findings",
    "seed_instruments",
    "seed_macro_series",
    "served_from",
    "store_candles",
    "store_market",
]
