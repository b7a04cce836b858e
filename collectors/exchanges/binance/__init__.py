"""Binance: USD-M futures (`binance`) and spot (`binance_spot`), over REST and WebSocket."""

from collectors.exchanges.binance.payloads import NAME, read_error
from collectors.exchanges.binance.rest import SPOT, Binance, BinanceSpot
from collectors.exchanges.binance.stream import SPOT_FEED, USDM_FEED
from collectors.exchanges.binance.weights import klines_weight

__all__ = [
    "NAME",
    "SPOT",
    "SPOT_FEED",
    "USDM_FEED",
    "Binance",
    "BinanceSpot",
    "klines_weight",
    "read_error",
]
