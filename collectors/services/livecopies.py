"""Copies of the newest candles for live readers outside: `market:{symbol}:{timeframe}` in Redis.

The table is the truth. A copy that cannot be written is logged and forgotten, and for a while no
other is tried: storing must not wait for a Redis that does not answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import redis
import structlog

from collectors.marketdata import Candle
from collectors.selectors.live import redis_client

log = structlog.get_logger(__name__)

KEY_TTL_S = 30 * 60
PAUSE_S = 5.0


@dataclass(frozen=True)
class LiveCandle:
    """The newest closed candle of a series; `symbol` is the instrument's."""

    symbol: str
    timeframe: str
    candle: Candle


def market_key(symbol: str, timeframe: str) -> str:
    """The Redis key of an instrument's newest closed candle."""
    return f"market:{symbol}:{timeframe}"


def publish_newest(candles: Sequence[LiveCandle]) -> None:
    """Write the key of each candle, for 30 minutes; raises nothing that Redis does."""
    if not candles or time.monotonic() < _pause.until:
        return
    try:
        with redis_client().pipeline(transaction=False) as pipeline:
            for each in candles:
                said = msgspec.structs.asdict(each.candle)
                said.pop("received_at")
                value = msgspec.json.encode({"timeframe": each.timeframe, **said})
                pipeline.set(market_key(each.symbol, each.timeframe), value, ex=KEY_TTL_S)
            pipeline.execute()
    except redis.RedisError as problem:
        _pause.until = time.monotonic() + PAUSE_S
        log.warning("market_keys_not_written", count=len(candles), problem=str(problem))


class _Pause(threading.local):
    """Until when (monotonic) this thread does not try."""

    until = 0.0


_pause = _Pause()
