"""CoinGecko: prices of coins that no exchange lists, and what there is by market cap."""

from collectors.coingecko.client import CoinGecko
from collectors.coingecko.payloads import (
    MarketChart,
    MarketRow,
    OhlcRow,
    Sample,
    read_error,
    vanished,
)
from collectors.coingecko.plans import PRO_URL, PUBLIC_URL, plan_url
from collectors.coingecko.samples import NAME, WINDOW, sampled_candles, windows

__all__ = [
    "NAME",
    "PRO_URL",
    "PUBLIC_URL",
    "WINDOW",
    "CoinGecko",
    "MarketChart",
    "MarketRow",
    "OhlcRow",
    "Sample",
    "plan_url",
    "read_error",
    "sampled_candles",
    "vanished",
    "windows",
]
