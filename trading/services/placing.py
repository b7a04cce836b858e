"""Writing orders: what is wanted becomes a row, once, on the grid of its venue.

Runs inside the transaction of `locked_account`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import transaction

from collectors.models import Instrument
from risk.models import RiskDecision
from signals.models import Signal
from trading.events import orders_placed
from trading.models import Account, Order, OrderKind, OrderStatus, Side, TimeInForce
from trading.services.venues import Venue


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What is ordered. `side` is 1 (buy) or -1 (sell), `steps` > 0; ticks are on the venue's grid.

    `stop_loss` and `take_profit` (quote units) are for the position that an entry opens.
    """

    leg: str
    side: int
    steps: int
    kind: str = OrderKind.MARKET
    signal: Signal | None = None
    decision: RiskDecision | None = None
    key: str = ""
    limit_ticks: int | None = None
    trigger_ticks: int | None = None
    trail_ticks: int | None = None
    watermark_ticks: int | None = None
    stop_loss: float | None = None
    take_profit: float | None = None
    time_in_force: str = TimeInForce.GTC
    expires_at: datetime | None = None
    oco: str = ""
    reason: str = ""
    placed_by: str = ""
    judged_from: datetime | None = None


def place_order(
    *, account: Account, instrument: Instrument, venue: Venue, ticket: Ticket, at: datetime
) -> Order:
    """Write a working order. One per account and signal and leg, or key: a second raises
    IntegrityError."""
    if ticket.kind != OrderKind.MARKET:
        announce_orders()
    return Order.objects.create(
        account=account,
        instrument=instrument,
        exchange=venue.exchange,
        symbol=venue.symbol,
        tick_size=venue.tick_size,
        quantity_step=venue.quantity_step,
        side=Side.BUY if ticket.side > 0 else Side.SELL,
        quantity_steps=ticket.steps,
        status=OrderStatus.WORKING,
        at=at,
        signal=ticket.signal,
        decision=ticket.decision,
        key=ticket.key,
        kind=ticket.kind,
        leg=ticket.leg,
        limit_ticks=ticket.limit_ticks,
        trigger_ticks=ticket.trigger_ticks,
        trail_ticks=ticket.trail_ticks,
        watermark_ticks=ticket.watermark_ticks,
        stop_loss=ticket.stop_loss,
        take_profit=ticket.take_profit,
        time_in_force=ticket.time_in_force,
        expires_at=ticket.expires_at,
        oco=ticket.oco,
        reason=ticket.reason,
        placed_by=ticket.placed_by,
        judged_from=ticket.judged_from,
    )


def announce_orders() -> None:
    """Tell, after commit, that orders wait for quotes from now on."""
    transaction.on_commit(partial(orders_placed.send_robust, sender=Order), robust=True)


def cancel_order(*, order: Order, reason: str, at: datetime, status: str = "cancelled") -> None:
    """End a working order; what it filled stays filled."""
    order.status = status
    order.reason = reason[:200]
    order.ended_at = at
    order.save(update_fields=["status", "reason", "ended_at"])
