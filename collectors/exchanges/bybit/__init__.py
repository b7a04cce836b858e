"""Bybit v5: linear perpetuals (`bybit`) over REST and WebSocket, spot (`bybit_spot`) over REST."""

from collectors.exchanges.bybit.payloads import NAME, read_error
from collectors.exchanges.bybit.rest import SPOT, Bybit, BybitSpot
from collectors.exchanges.bybit.stream import read_message, stream_channels

__all__ = [
    "NAME",
    "SPOT",
    "Bybit",
    "BybitSpot",
    "read_error",
    "read_message",
    "stream_channels",
]
