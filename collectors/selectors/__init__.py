"""What the other apps may read of the collected data. The other modules are its parts."""

from collectors.selectors.budget import budget_today
from collectors.selectors.candles import candle_at, candle_history, revisions
from collectors.selectors.completeness import (
    CoverageMap,
    SeriesKey,
    SeriesTotals,
    coverage_map,
    known_series,
    series_totals,
)
from collectors.selectors.coverage import (
    given_up_bars,
    hole_counts,
    lacking_bars,
    missing_at,
)
from collectors.selectors.findings import findings_by_reason, quality_today, stale_series
from collectors.selectors.frames import market_frame
from collectors.selectors.funding import newest_funding, unconfirmed_funding
from collectors.selectors.instruments import (
    enabled_instruments,
    instrument_by_coin_id,
    listing_for,
    listings_at,
    off_market,
    strategy_instruments,
    symbols_at,
)
from collectors.selectors.listings import BookListing, book_listings, find_listing
from collectors.selectors.live import (
    latest_quote,
    latest_quotes,
    latest_tops,
    live_books,
    quote_key,
    redis_client,
)
from collectors.selectors.macro import (
    MacroColumn,
    due_macro_series,
    macro_as_of,
    macro_as_of_many,
    macro_history,
    macro_is_current,
    macro_known_at,
    macro_on_days,
)
from collectors.selectors.names import instruments_named, is_named, known_names
from collectors.selectors.shards import ShardHolding, shard_holding
from collectors.selectors.ticks import series_that_lack

__all__ = [
    "BookListing",
    "CoverageMap",
    "MacroColumn",
    "SeriesKey",
    "SeriesTotals",
    "ShardHolding",
    "book_listings",
    "budget_today",
    "candle_at",
    "candle_history",
    "coverage_map",
    "due_macro_series",
    "enabled_instruments",
    "find_listing",
    "findings_by_reason",
    "given_up_bars",
    "hole_counts",
    "instrument_by_coin_id",
    "instruments_named",
    "is_named",
    "known_names",
    "known_series",
    "lacking_bars",
    "latest_quote",
    "latest_quotes",
    "latest_tops",
    "listing_for",
    "listings_at",
    "live_books",
    "macro_as_of",
    "macro_as_of_many",
    "macro_history",
    "macro_is_current",
    "macro_known_at",
    "macro_on_days",
    "market_frame",
    "missing_at",
    "newest_funding",
    "off_market",
    "quality_today",
    "quote_key",
    "redis_client",
    "revisions",
    "series_that_lack",
    "series_totals",
    "shard_holding",
    "stale_series",
    "strategy_instruments",
    "symbols_at",
    "unconfirmed_funding",
]
