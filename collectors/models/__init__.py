"""What was collected, and how collection stands. The other modules are its parts."""

from collectors.models.books import BookDowntime, BookHour, BookSample
from collectors.models.candles import (
    CandleHole,
    CandleReplacement,
    HoleLabel,
    Ohlcv,
    PriceSample,
    Series,
    SourceGap,
)
from collectors.models.collection import (
    Backfill,
    BackfillState,
    CollectionState,
    FindingVerdict,
    ProviderBlock,
    ProviderCallMinute,
    QualityFinding,
    RetentionPolicy,
)
from collectors.models.funding import FundingRate
from collectors.models.instruments import (
    DERIVED_TIMEFRAMES,
    NATIVE_TIMEFRAMES,
    Instrument,
    Listing,
    Tier,
    default_source_chain,
)
from collectors.models.keys import ApiKey, KeyScope
from collectors.models.macro import MacroObservation, MacroSeries
from collectors.models.shards import StreamProcess, StreamShard
from collectors.models.writes import AnsweredWrite

__all__ = [
    "DERIVED_TIMEFRAMES",
    "NATIVE_TIMEFRAMES",
    "AnsweredWrite",
    "ApiKey",
    "Backfill",
    "BackfillState",
    "BookDowntime",
    "BookHour",
    "BookSample",
    "CandleHole",
    "CandleReplacement",
    "CollectionState",
    "FindingVerdict",
    "FundingRate",
    "HoleLabel",
    "Instrument",
    "KeyScope",
    "Listing",
    "MacroObservation",
    "MacroSeries",
    "Ohlcv",
    "PriceSample",
    "ProviderBlock",
    "ProviderCallMinute",
    "QualityFinding",
    "RetentionPolicy",
    "Series",
    "SourceGap",
    "StreamProcess",
    "StreamShard",
    "Tier",
    "default_source_chain",
]
