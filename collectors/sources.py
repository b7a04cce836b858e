"""Which providers there are. To add an exchange: one folder in `exchanges/`, one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from collectors.budget import CallBudget
from collectors.coingecko import CoinGecko
from collectors.exchange import RETRY_PAUSE_S, CandleSource
from collectors.exchanges import binance, bybit
from collectors.feeds import Feed
from collectors.formats import tables
from collectors.venues import SymbolSource


class VenueRest(CandleSource, SymbolSource, Protocol):
    """The REST client of a venue."""


# The exchanges whose perpetuals are collected unless an operator says otherwise, best first.
EXCHANGES = (binance.NAME, bybit.NAME)

# What is streamed, spot only where an operator's source chain asks for it.
FEEDS: Mapping[str, Feed] = {
    feed.exchange: feed
    for feed in (
        binance.USDM_FEED,
        bybit.LINEAR_FEED,
        binance.SPOT_FEED,
        bybit.SPOT_FEED,
    )
}


@dataclass(frozen=True)
class Venue:
    """One market of an exchange over REST: what lists symbols and serves their candles."""

    open_rest: Callable[..., VenueRest]
    url_setting: str
    settles_funding: bool = False


VENUES: Mapping[str, Venue] = {
    binance.NAME: Venue(binance.Binance, "BINANCE_REST_URL", settles_funding=True),
    bybit.NAME: Venue(bybit.Bybit, "BYBIT_REST_URL", settles_funding=True),
    binance.SPOT: Venue(binance.BinanceSpot, "BINANCE_SPOT_REST_URL"),
    bybit.SPOT: Venue(bybit.BybitSpot, "BYBIT_REST_URL"),
}

FUNDING_VENUES = tuple(name for name, venue in VENUES.items() if venue.settles_funding)

# Every candle source there is, by the names that source chains use.
CANDLE_SOURCES = (*VENUES, CoinGecko.name)

# What histories call the source of a volume, 1 to 127: volumes compare only under one code. The
# codes are in files, so that none is ever given to another source. Imported candles whose file
# names no source count as one source, which is for whoever trusts the file to know. Code 0 compares
# with nothing: CoinGecko has no interval volume, nor has a candle built from samples, and of any
# other name nobody knows how it measures.
VOLUME_CODES: Mapping[str, int] = {
    binance.NAME: 1,
    bybit.NAME: 2,
    binance.SPOT: 3,
    bybit.SPOT: 4,
    tables.SOURCE: 5,
}


@dataclass(frozen=True, kw_only=True)
class ProviderAccess:
    """How the providers are reached: their URLs by setting name, keys, the timeout and the first
    pause before another try in seconds."""

    urls: Mapping[str, str]
    timeout_s: float
    coingecko_plan: str
    coingecko_api_key: str
    fred_api_key: str
    retry_pause_s: float = RETRY_PAUSE_S


def open_candle_source(name: str, *, access: ProviderAccess, budget: CallBudget) -> CandleSource:
    """The candle source of that name. Raises KeyError for an unknown one."""
    if name == CoinGecko.name:
        return CoinGecko(
            base_url=access.urls["COINGECKO_BASE_URL"],
            budget=budget,
            timeout_s=access.timeout_s,
            plan=access.coingecko_plan,
            api_key=access.coingecko_api_key,
            retry_pause_s=access.retry_pause_s,
        )
    return open_venue(name, access=access, budget=budget)


def open_venue(name: str, *, access: ProviderAccess, budget: CallBudget) -> VenueRest:
    """The REST client of that venue. Raises KeyError for an unknown one."""
    venue = VENUES[name]
    return venue.open_rest(
        base_url=access.urls[venue.url_setting],
        budget=budget,
        timeout_s=access.timeout_s,
        retry_pause_s=access.retry_pause_s,
    )
