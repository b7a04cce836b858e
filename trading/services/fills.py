"""One filled order in the books: order, fill, entries, cash, position and trade together.

Every function here runs inside the transaction of `locked_account`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F, Value

from collectors import clock
from collectors.marketdata import duration, floor_time
from collectors.models import Instrument
from risk.assessment import Verdict
from risk.models import RiskDecision
from signals.models import Signal
from trading.events import fills_recorded
from trading.fields import MoneyField, from_units, to_units
from trading.models import (
    Account,
    EntryKind,
    Fill,
    LedgerEntry,
    Order,
    OrderLeg,
    OrderStatus,
    Position,
    Side,
    Trade,
)
from trading.orders import SLIPPAGE_BPS, TAKER_FEE_PPM, Execution, Grid, OrderRequest, execute

# How long after a bar's open an entry still counts as made at it: a bar run waits up to half a
# minute of market time for the last candle, and the strategies, the queue and the first quote take
# the rest. The clock widens it by what the machine itself takes; it never exceeds half a bar, so
# a fill is always judged on most of what its bar did after it.
AT_OPEN = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Venue:
    """Where an order trades: the symbol and the grid that the order copies."""

    exchange: str
    symbol: str
    tick_size: str
    quantity_step: str
    min_notional: float

    def on_grid_of(self, position: Position) -> Venue:
        """The same venue with the grid that the position was opened on."""
        return replace(self, tick_size=position.tick_size, quantity_step=position.quantity_step)

    @property
    def grid(self) -> Grid:
        """The grid as integers. Raises GridError."""
        return Grid.of(self.tick_size, self.quantity_step)


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """Why and when an order trades, and the recorded inputs of its price."""

    at: datetime  # market time
    bar: datetime  # open time of the bar of the signal or of the trigger
    leg: str
    reason: str
    quote: Mapping[str, Any]
    signal: Signal | None = None
    decision: RiskDecision | None = None
    trigger_bar: datetime | None = None


def open_position(
    *,
    account: Account,
    position: Position,
    venue: Venue,
    verdict: Verdict,
    direction: int,
    ticks: int,
    occasion: Occasion,
) -> Fill:
    """Fill an approved opening on a flat position, with the verdict's stop and target."""
    position.tick_size = venue.tick_size
    position.quantity_step = venue.quantity_step
    request = OrderRequest(side=direction, steps=verdict.steps)
    fill = _record_fill(account, position, venue, request, ticks, occasion)
    position.stop_loss = verdict.stop_loss
    position.take_profit = None if math.isnan(verdict.take_profit) else verdict.take_profit
    position.entry_signal = occasion.signal
    position.entry_fees = fill.fee
    position.entered_at = occasion.at
    position.exits_from = first_judged_bar(filled_at=occasion.at, timeframe=account.timeframe)
    position.stopped_direction = 0
    position.save()
    return fill


def close_whole_position(
    *, account: Account, position: Position, venue: Venue, ticks: int, occasion: Occasion
) -> Fill:
    """Fill the closing of everything held, and record the round trip.

    `venue` carries the grid of the position, which keeps the one that it was opened on.
    """
    held = position.quantity_steps
    direction = 1 if held > 0 else -1
    grid = Grid.of(position.tick_size, position.quantity_step)
    cost = to_units(position.total_cost)
    entry_fees, entered_at = position.entry_fees, position.entered_at or occasion.at
    # A worker that waited for the lock may have read its clock before the entry was made.
    occasion = replace(occasion, at=max(occasion.at, entered_at))
    strategy = position.entry_signal.strategy if position.entry_signal else "manual"
    request = OrderRequest(side=-direction, steps=abs(held))
    fill = _record_fill(account, position, venue, request, ticks, occasion)
    position.stop_loss = position.take_profit = None
    position.entry_signal = None
    position.entry_fees = from_units(0)
    position.entered_at = position.exits_from = None
    if occasion.leg == OrderLeg.STOP_LOSS:
        position.stopped_direction = direction
    position.save()
    Trade.objects.create(
        account=account,
        instrument=position.instrument,
        strategy=strategy,
        direction=direction,
        quantity=grid.quantity_text(abs(held)),
        entry_price=average_price(cost, held, grid),
        exit_price=grid.price(ticks),
        pnl=fill.realised_pnl,
        fees=entry_fees + fill.fee,
        entered_at=entered_at,
        exited_at=occasion.at,
        exit_reason=occasion.reason,
        exit_fill=fill,
    )
    return fill


def first_judged_bar(*, filled_at: datetime, timeframe: str) -> datetime:
    """The open time of the first bar that may decide the stop and target of an entry.

    A bar that closed before the fill says nothing about the position. The bar of the fill counts
    when the fill came at its open, which is how the backtest has it; later in the bar its high
    and low may be from before the entry, so the next bar is the first.
    """
    bar, step = floor_time(filled_at, timeframe), duration(timeframe)
    came_at_open = filled_at - bar <= min(clock.current().widen(AT_OPEN), step / 2)
    return bar if came_at_open else bar + step


def average_price(total_cost: int, steps: int, grid: Grid) -> float:
    """What one base unit cost on average, for people; the books never compute with it."""
    ticks = total_cost * grid.unit_den / (steps * grid.unit_num)
    return ticks * grid.tick_num / grid.tick_den


def position_for(*, account: Account, instrument: Instrument, venue: Venue | None) -> Position:
    """The account's row for an instrument, made flat on first use."""
    position, _ = Position.objects.select_related("instrument", "entry_signal").get_or_create(
        account=account,
        instrument=instrument,
        defaults={
            "tick_size": venue.tick_size if venue else "1",
            "quantity_step": venue.quantity_step if venue else "1",
        },
    )
    return position


def _record_fill(
    account: Account,
    position: Position,
    venue: Venue,
    request: OrderRequest,
    ticks: int,
    occasion: Occasion,
) -> Fill:
    execution = execute(
        request,
        quantity=position.quantity_steps,
        total_cost=to_units(position.total_cost),
        ticks=ticks,
        grid=venue.grid,
        fee_ppm=TAKER_FEE_PPM[account.exchange],
    )
    order = Order.objects.create(
        account=account,
        instrument=position.instrument,
        exchange=venue.exchange,
        symbol=venue.symbol,
        signal=occasion.signal,
        decision=occasion.decision,
        leg=occasion.leg,
        trigger_bar=occasion.trigger_bar,
        side=Side.BUY if request.side > 0 else Side.SELL,
        quantity_steps=request.steps,
        tick_size=venue.tick_size,
        quantity_step=venue.quantity_step,
        status=OrderStatus.FILLED,
        at=occasion.at,
    )
    fill = Fill.objects.create(
        order=order,
        account=account,
        price_ticks=ticks,
        quantity_steps=request.steps,
        fee=from_units(execution.fee),
        realised_pnl=from_units(execution.realised),
        slippage_bps=0.0 if occasion.leg == OrderLeg.TAKE_PROFIT else SLIPPAGE_BPS,
        quote={**occasion.quote, "fee_ppm": TAKER_FEE_PPM[account.exchange]},
        bar_open_time=occasion.bar,
        at=occasion.at,
        recorded_at=clock.wall_now(),
    )
    _move_cash(account, fill, execution)
    position.quantity_steps = execution.quantity_after
    position.total_cost = from_units(execution.cost_after)
    position.realised_pnl = position.realised_pnl + fill.realised_pnl
    transaction.on_commit(
        partial(fills_recorded.send_robust, sender=Fill, fill_ids=[fill.pk]), robust=True
    )
    return fill


def _move_cash(account: Account, fill: Fill, execution: Execution) -> None:
    entries = [
        LedgerEntry(
            account=account,
            fill=fill,
            kind=EntryKind.FEE,
            amount=from_units(-execution.fee),
            at=fill.at,
        )
    ]
    if fill.order.leg != OrderLeg.OPEN:
        entries.append(
            LedgerEntry(
                account=account,
                fill=fill,
                kind=EntryKind.REALISED_PNL,
                amount=from_units(execution.realised),
                at=fill.at,
            )
        )
    LedgerEntry.objects.bulk_create(entries)
    change = Value(from_units(execution.realised - execution.fee), output_field=MoneyField())
    Account.objects.filter(pk=account.pk).update(cash=F("cash") + change)
    account.refresh_from_db(fields=["cash"])
