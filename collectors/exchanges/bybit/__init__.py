"""Bybit v5: linear perpetuals (`bybit`) and spot (`bybit_spot`), over REST and WebSocket."""

from collectors.exchanges.bybit.payloads import NAME, read_error
from collectors.exchanges.bybit.rest import SPOT, Bybit, BybitSpot
from collectors.exchanges.bybit.stream import LINEAR_FEED, SPOT_FEED

__all__ = [
    "LINEAR_FEED",
    "NAME",
    "SPOT",
    "SPOT_FEED",
    "Bybit",
    "BybitSpot",
    "read_error",
]
