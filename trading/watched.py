"""Reads of working orders as the quote watch needs them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from collectors import clock
from collectors.marketdata import to_ms
from collectors.selectors import symbols_at
from trading.models import Order, OrderKind, OrderStatus, Side
from trading.orders import Grid
from trading.services.matching import KINDS
from trading.simulator import WorkingOrder
from trading.watch import Watched

COLUMNS = (
    "pk", "exchange", "symbol", "kind", "side", "quantity_steps", "filled_steps", "limit_ticks",
    "trigger_ticks", "trail_ticks", "watermark_ticks", "is_triggered", "tick_size",
    "quantity_step", "at", "account__latency_ms", "instrument",
)  # fmt: skip

_grid = lru_cache(maxsize=4096)(Grid.of)


def watched_orders() -> Iterator[Watched]:
    """Every working order, under the name that its instrument has now, in two queries."""
    working = Order.objects.filter(status=OrderStatus.WORKING)
    rows = list(working.order_by().values_list(*COLUMNS))
    names = symbols_at(instrument_ids=[row[-1] for row in rows], at=clock.now())
    for (
        pk, exchange, symbol, kind, side, quantity, filled, limit, trigger, trail, watermark,
        is_triggered, tick_size, quantity_step, at, latency_ms, instrument_id,
    ) in rows:  # fmt: skip
        symbol = names.get((exchange, instrument_id), symbol)
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
