"""The values that market data is made of: timeframes, candles, quotes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
from numpy.typing import NDArray

TIMEFRAMES: dict[str, timedelta] = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "4h": timedelta(hours=4),
    "1d": timedelta(days=1),
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Candle(msgspec.Struct, frozen=True, kw_only=True):
    """One closed bar. Prices in quote units; `volume` in base units over the bar, or None where
    the source has no true interval volume. `open_time` labels it, it is known at the close.
    `received_at` is wall time, and None for what is received now."""

    open_time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    source: str
    is_sampled: bool = False
    received_at: datetime | None = None


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """The top of one venue's book. `event_time` is the venue's stamp (market time); prices and
    quantities are the venue's own strings parsed as doubles, never computed."""

    exchange: str
    symbol: str
    best_bid: float
    bid_quantity: float
    best_ask: float
    ask_quantity: float
    event_time: datetime
    received_at: datetime
    sequence: int


@dataclass(frozen=True, kw_only=True)
class CandleMatrix:
    """Aligned candles: B bars of the whole grid, oldest first, by K instruments.

    A hole carries the last close with zero volume and `valid` false; before an instrument's first
    candle all prices are its first open, invalid too. A volume that its source does not have is
    zero, and `has_volume` false. Volumes are comparable where `volume_source` is the same code and
    not 0. What is `derived` was made from shorter candles. NaN never occurs. An instrument without
    any candle carries ones.
    """

    timeframe: str
    coin_ids: tuple[str, ...]
    open_time: NDArray[np.int64]  # (B,) epoch milliseconds
    open: NDArray[np.float64]  # (B, K)
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    valid: NDArray[np.bool_]
    sampled: NDArray[np.bool_]
    has_volume: NDArray[np.bool_]
    volume_source: NDArray[np.int8]
    derived: NDArray[np.bool_]


def candle_key(coin_id: str, timeframe: str) -> str:
    """The key of a candle series' revision."""
    return f"candles:{coin_id}:{timeframe}"


def macro_key(series_id: str) -> str:
    """The key of a macro series' revision."""
    return f"macro:{series_id}"


def duration(timeframe: str) -> timedelta:
    """The length of a timeframe. Raises ValueError for an unknown one."""
    try:
        return TIMEFRAMES[timeframe]
    except KeyError:
        known = ", ".join(TIMEFRAMES)
        raise ValueError(f"unknown timeframe {timeframe!r}; known: {known}") from None


def floor_time(moment: datetime, timeframe: str) -> datetime:
    """The open time of the bar that contains `moment` (bars are aligned to the UTC epoch)."""
    step = duration(timeframe)
    return EPOCH + ((moment - EPOCH) // step) * step


def last_closed(moment: datetime, timeframe: str) -> datetime:
    """The open time of the newest bar that is closed at `moment`."""
    return floor_time(moment, timeframe) - duration(timeframe)


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch, exact."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_ms(milliseconds: int) -> datetime:
    """The aware UTC datetime of an epoch in milliseconds."""
    return EPOCH + timedelta(milliseconds=milliseconds)
