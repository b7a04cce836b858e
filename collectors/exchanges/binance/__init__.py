"""Binance: USD-M futures (`binance`) over REST and WebSocket, spot (`binance_spot`) over REST."""

from collectors.exchanges.binance.payloads import NAME, read_error
from collectors.exchanges.binance.rest import SPOT, Binance, BinanceSpot
from collectors.exchanges.binance.stream import read_message, stream_channels
from collectors.exchanges.binance.weights import klines_weight

__all__ = [
    "NAME",
    "SPOT",
    "Binance",
    "BinanceSpot",
    "klines_weight",
    "read_error",
    "read_message",
    "stream_channels",
]
