"""What changes the collected data. The other modules of this package are its parts."""

from collectors.seeds import seed_instruments, seed_macro_series
from collectors.services.backfill_requests import (
    BackfillRefused,
    NotServed,
    continue_backfill,
    request_backfill,
    restart_backfill,
    servable_span,
)
from collectors.services.backfills import cancel_backfill, due_backfills, run_backfill
from collectors.services.books import sample_books
from collectors.services.candles import StoreResult, store_candles, store_market
from collectors.services.coverage import default_history_start, ensure_coverage
from collectors.services.discovery import Refreshed, discover_instruments, refresh_listings
from collectors.services.exports import Exported, export_candles, export_macro
from collectors.services.findings import keep_possible, record_findings
from collectors.services.funding import FundingCoverage, ensure_funding
from collectors.services.imports import Imported, Wanted, import_tables
from collectors.services.macro import collect_macro, flag_stale_series
from collectors.services.pruning import prune_candles
from collectors.services.samples import poll_samples, refine_samples, sampled_instruments
from collectors.services.search import EARLIEST, Coverage, served_from
from collectors.services.ticks import cover_all, cover_tier

__all__ = [
    "EARLIEST",
    "BackfillRefused",
    "Coverage",
    "Exported",
    "FundingCoverage",
    "Imported",
    "NotServed",
    "Refreshed",
    "StoreResult",
    "Wanted",
    "cancel_backfill",
    "collect_macro",
    "continue_backfill",
    "cover_all",
    "cover_tier",
    "default_history_start",
    "discover_instruments",
    "due_backfills",
    "ensure_coverage",
    "ensure_funding",
    "export_candles",
    "export_macro",
    "flag_stale_series",
    "import_tables",
    "keep_possible",
    "poll_samples",
    "prune_candles",
    "record_findings",
    "refine_samples",
    "refresh_listings",
    "request_backfill",
    "restart_backfill",
    "run_backfill",
    "sample_books",
    "sampled_instruments",
    "seed_instruments",
    "seed_macro_series",
    "servable_span",
    "served_from",
    "store_candles",
    "store_market",
]
