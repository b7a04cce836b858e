"""What a request to Binance weighs. Pure.

USD-M: https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data, 2,400 a
minute. Spot: https://developers.binance.com/docs/binance-spot-api-docs/rest-api, 6,000 a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights of one market's requests; pairs are (one symbol, all symbols)."""

    klines: Callable[[int], int]
    depth: Callable[[int], int]
    day_ticker: tuple[int, int]
    book_ticker: tuple[int, int]
    exchange_info: int


def klines_weight(limit: int) -> int:
    """The request weight of a USD-M klines call by its limit."""
    if limit < 100:
        return 1
    if limit < 500:
        return 2
    return 5 if limit <= 1000 else 10


def depth_weight(limit: int) -> int:
    """The request weight of a USD-M depth call by its limit."""
    if limit <= 50:
        return 2
    if limit <= 100:
        return 5
    return 10 if limit <= 500 else 20


def spot_depth_weight(limit: int) -> int:
    """The request weight of a spot depth call by its limit."""
    if limit <= 100:
        return 5
    if limit <= 500:
        return 25
    return 50 if limit <= 1000 else 250


FUTURES = Weights(
    klines=klines_weight,
    depth=depth_weight,
    day_ticker=(1, 40),
    book_ticker=(2, 5),
    exchange_info=1,
)
SPOT = Weights(
    klines=lambda limit: 2,
    depth=spot_depth_weight,
    day_ticker=(2, 80),
    book_ticker=(2, 4),
    exchange_info=20,
)
PREMIUM_INDEX_ALL = 10
# No weight is published: these share a limit of their own, 500 calls in five minutes.
FUNDING = 1
