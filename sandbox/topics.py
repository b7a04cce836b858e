"""What a stream is: its exchange, name, kind and rhythm. Pure."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a topic carries."""

    DEPTH = "depth"
    PARTIAL_DEPTH = "partial depth"
    TOP = "top of book"
    KLINE = "kline"
    MARK = "mark price"
    TICKER = "ticker"
    TRADE = "trade"
    AGGREGATE_TRADE = "aggTrade"


@dataclass(frozen=True)
class Topic:
    """One stream of one exchange. `size` is levels or minutes, `every_ms` its wall interval."""

    exchange: str
    name: str
    kind: Kind
    symbol: str
    size: int
    every_ms: int
