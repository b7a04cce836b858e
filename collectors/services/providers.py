"""The provider clients of this process, made from the settings."""

from __future__ import annotations

import functools
import threading

from django.conf import settings

from collectors.budget import CallBudget, provider_limits
from collectors.coingecko import CoinGecko
from collectors.exchange import CandleSource
from collectors.fred import Fred
from collectors.selectors import redis_client
from collectors.services.calls import ProviderCallRecords
from collectors.sources import ProviderAccess, open_candle_source
from collectors.venues import FundingSource, SymbolSource

# A session keeps connections open and must not be shared by threads.
_clients = threading.local()


def call_budget() -> CallBudget:
    """The budget shared by all processes."""
    return _call_budget(settings.ENV.coingecko_plan)


@functools.cache
def _call_budget(coingecko_plan: str) -> CallBudget:
    return CallBudget(
        redis_client(),
        limits=provider_limits(coingecko_plan=coingecko_plan),
        records=ProviderCallRecords(),
    )


def provider_access() -> ProviderAccess:
    """URLs, keys and timeout from the settings."""
    return ProviderAccess(
        urls=settings.PROVIDER_URLS,
        timeout_s=settings.REQUEST_TIMEOUT,
        coingecko_plan=settings.ENV.coingecko_plan,
        coingecko_api_key=settings.ENV.coingecko_api_key,
        fred_api_key=settings.ENV.fred_api_key,
        retry_pause_s=settings.RETRY_PAUSE_S,
    )


def candle_source(name: str) -> CandleSource:
    """This thread's client of a candle source."""
    opened: dict[tuple[str, str], CandleSource] = _clients.__dict__.setdefault("sources", {})
    access = provider_access()
    key = (name, str(access))
    if key not in opened:
        opened[key] = open_candle_source(name, access=access, budget=call_budget())
    return opened[key]


def funding_source(name: str) -> FundingSource:
    """This thread's client of a venue that settles funding."""
    source = candle_source(name)
    if not isinstance(source, FundingSource):
        raise TypeError(f"{name} settles no funding")
    return source


def symbol_source(name: str) -> SymbolSource:
    """This thread's client of a venue that lists symbols."""
    source = candle_source(name)
    if not isinstance(source, SymbolSource):
        raise TypeError(f"{name} lists no symbols")
    return source


def coingecko() -> CoinGecko:
    """This thread's client of CoinGecko."""
    source = candle_source(CoinGecko.name)
    if not isinstance(source, CoinGecko):
        raise TypeError(f"{CoinGecko.name} is served by {type(source).__name__}")
    return source


def fred() -> Fred:
    """A client of FRED."""
    access = provider_access()
    return Fred(
        base_url=access.urls["FRED_BASE_URL"],
        budget=call_budget(),
        timeout_s=access.timeout_s,
        api_key=access.fred_api_key,
        retry_pause_s=access.retry_pause_s,
    )
