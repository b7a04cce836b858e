"""Books as the stream process writes them to Redis."""

from datetime import timedelta
from typing import Any

import msgspec
import redis

from collectors import clock
from collectors.selectors import quote_key


def book_value(
    exchange: str = "binance", symbol: str = "BTCUSDT", *, levels: int = 50, **fields: Any
) -> dict[str, Any]:
    """A synchronised book around 50 000.05, received now, with `fields` in place of its own."""
    now = clock.wall_now()
    value: dict[str, Any] = {
        "exchange": exchange,
        "symbol": symbol,
        "best_bid": 50_000.0,
        "bid_quantity": 1.5,
        "best_ask": 50_000.1,
        "ask_quantity": 0.00002,
        "event_time": clock.now(),
        "received_at": now,
        "sequence": 17,
        "is_synced": True,
        "reason": "",
        "bids": [[round(50_000 - 0.1 * step, 1), 1.5 + step] for step in range(levels)],
        "asks": [[round(50_000.1 + 0.1 * step, 1), 0.00002 + step] for step in range(levels)],
        "mid_price": 50_000.05,
        "spread_bps": 0.02,
        "imbalance": 0.25,
        "depth_bps": {"10": [150_000.0, 149_000.5], "50": None},
        "health": {
            "synced_since": now - timedelta(seconds=60),
            "withheld_s": 1.5,
            "gaps": 2,
            "crossings": 0,
            "resyncs": 1,
            "malformed": 0,
            "messages_per_s": 9.5,
            "latency_ms": 12.0,
        },
    }
    return value | fields


def withheld_value(exchange: str = "binance", symbol: str = "BTCUSDT") -> dict[str, Any]:
    """A book that is not served, with the best prices that came apart from it."""
    computed = dict.fromkeys(("imbalance",))
    return book_value(
        exchange,
        symbol,
        is_synced=False,
        reason="gap in sequence",
        bids=[],
        asks=[],
        depth_bps={},
        **computed,
    )


def store(client: redis.Redis, *values: dict[str, Any]) -> None:
    """Write values where the stream process writes them."""
    for value in values:
        key = quote_key(value["exchange"], value["symbol"])
        client.set(key, msgspec.json.encode(value), ex=3600)
