"""Reads of working orders as the quote watch needs them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from collectors.marketdata import to_ms
from trading.models import Order, OrderKind, OrderStatus, Side
from trading.orders import Grid
from trading.services.matching import KINDS
from trading.simulator import WorkingOrder
from trading.watch import Watched

COLUMNS = (
    "pk", "exchange", "symbol", "kind", "side", "quantity_steps", "filled_steps", "limit_ticks",
    "trigger_ticks", "trail_ticks", "watermark_ticks", "is_triggered", "tick_size",
    "quantity_step", "at", "account__latency_ms",
)  # fmt: skip

_grid = lru_cache(maxsize=4096)(Grid.of)


def watched_orders() -> Iterator[Watched]:
    """Every working order, in one query."""
    working = Order.objects.filter(status=OrderStatus.WORKING)
    rows = working.order_by().values_list(*COLUMNS)
    for (
        pk, exchange, symbol, kind, side, quantity, filled, limit, trigger, trail, watermark,
        is_triggered, tick_size, quantity_step, at, latency_ms,
    ) in rows.iterator(chunk_size=2000):  # fmt: skip
        grid = _grid(tick_size, quantity_step)
        order = WorkingOrder(
            KINDS[OrderKind(kind)],
            1 if side == Side.BUY else -1,
            quantity - filled,
            limit or 0,
            trigger or 0,
            trail or 0,
            watermark or 0,
            is_triggered,
        )
        yield Watched(
            pk, exchange, symbol, order, grid.tick_num, grid.tick_den, to_ms(at) + latency_ms
        )
