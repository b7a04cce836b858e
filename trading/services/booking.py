"""What a fill does to the books: ledger, cash, order, position, trade and protection together.

Every function here runs inside the transaction of `locked_account`; either all of it is committed
or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction

from collectors import clock
from collectors.models import Instrument
from trading.accounting import multiply_divide, notional, slippage_cost
from trading.events import fills_recorded
from trading.fields import from_units, to_units
from trading.models import (
    Account,
    Book,
    Fill,
    Liquidity,
    Order,
    OrderLeg,
    OrderStatus,
    Position,
    Side,
    Trade,
    TransactionKind,
)
from trading.orders import (
    MAKER_FEE_PPM,
    TAKER_FEE_PPM,
    Execution,
    Grid,
    GridError,
    OrderRequest,
    execute,
)
from trading.services.ledger import post_transaction
from trading.services.protection import (
    REDUCTION,
    UNFILLED_ENTRY,
    cancel_working,
    protect_position,
    resize_protection,
    strengthen_protection,
)
from trading.services.venues import Venue

MANUAL = "manual"
NOTHING_HELD = "nothing is held any more"
TURNED = "the position turned"
STOPPED = "the stop was set off"


@dataclass(frozen=True, kw_only=True)
class Hit:
    """What the market gave to an order, and the recorded inputs of that.

    `trigger` names what was met: an order meets it once. `reference_ticks` is the price that was
    there; slippage is counted from it.
    """

    steps: int
    ticks: int
    reference_ticks: int
    slippage_bps: float
    trigger: str
    at: datetime  # market time
    bar: datetime  # open time of the bar of the signal or of the trigger
    quote: Mapping[str, Any]
    liquidity: str = Liquidity.TAKER


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


def book_fill(*, account: Account, position: Position, order: Order, hit: Hit) -> Fill:
    """Book what an order got. Raises OrderError when the books cannot count it.

    A fill that takes the position through zero closes one round trip and opens the next. What is
    held afterwards has its stop and target; without a holding nothing that would reduce it is left.
    """
    if position.quantity_steps == 0:
        position.tick_size, position.quantity_step = order.tick_size, order.quantity_step
    elif (position.tick_size, position.quantity_step) != (order.tick_size, order.quantity_step):
        raise GridError(f"order {order.pk} counts on another grid than what is held")
    grid = Grid.of(order.tick_size, order.quantity_step)
    side = 1 if order.side == Side.BUY else -1
    fees = MAKER_FEE_PPM if hit.liquidity == Liquidity.MAKER else TAKER_FEE_PPM
    execution = execute(
        OrderRequest(side=side, steps=hit.steps),
        quantity=position.quantity_steps,
        total_cost=to_units(position.total_cost),
        ticks=hit.ticks,
        grid=grid,
        fee_ppm=fees[order.exchange],
    )
    fill = _record_fill(account, position, order, hit, execution, grid)
    _advance_order(order, fill)
    before = position.direction
    _move_position(account, position, order, fill, execution, grid)
    _follow_with_protection(account, position, order, fill, before)
    position.save()
    transaction.on_commit(
        partial(fills_recorded.send_robust, sender=Fill, fill_ids=[fill.pk]), robust=True
    )
    return fill


def _record_fill(
    account: Account, position: Position, order: Order, hit: Hit, execution: Execution, grid: Grid
) -> Fill:
    slippage = slippage_cost(
        execution.steps, hit.ticks, hit.reference_ticks, grid.unit_num, grid.unit_den
    )
    # A worker that waited for the lock may have read its clock before the entry was made.
    at = hit.at if position.entered_at is None else max(hit.at, position.entered_at)
    fill = Fill.objects.create(
        order=order,
        account=account,
        trigger=hit.trigger,
        price_ticks=hit.ticks,
        quantity_steps=hit.steps,
        liquidity=hit.liquidity,
        fee=from_units(execution.fee),
        realised_pnl=from_units(execution.realised),
        slippage=from_units(slippage),
        slippage_bps=hit.slippage_bps,
        quote=dict(hit.quote),
        bar_open_time=hit.bar,
        at=at,
        recorded_at=clock.wall_now(),
    )
    post_transaction(
        account=account,
        kind=TransactionKind.FILL,
        key=f"fill:{fill.pk}",
        counter_amounts={Book.FEES: execution.fee, Book.REALISED_PNL: -execution.realised},
        at=at,
        fill=fill,
    )
    return fill


def _advance_order(order: Order, fill: Fill) -> None:
    order.filled_steps += fill.quantity_steps
    fields = ["filled_steps", "watermark_ticks", "is_triggered", "met_at"]
    if order.remaining_steps == 0:
        order.status = OrderStatus.FILLED
        order.ended_at = fill.at
        fields += ["status", "ended_at"]
    order.save(update_fields=fields)


def _move_position(
    account: Account, position: Position, order: Order, fill: Fill, execution: Execution, grid: Grid
) -> None:
    """Carry the fill into the position and its round trip; one through zero is split by steps."""
    held, after = position.quantity_steps, execution.quantity_after
    steps = abs(execution.steps)
    is_reducing = held * execution.steps < 0
    closing = min(steps, abs(held)) if is_reducing else 0
    fee, slippage = to_units(fill.fee), to_units(fill.slippage)
    closing_fee = multiply_divide(fee, closing, steps)
    closing_slippage = multiply_divide(slippage, closing, steps)
    position.quantity_steps = after
    position.total_cost = from_units(execution.cost_after)
    position.realised_pnl += fill.realised_pnl
    if closing:
        value = notional(closing, fill.price_ticks, grid.unit_num, grid.unit_den)
        position.round_exit_steps += closing
        position.round_exit_value += from_units(value)
        position.round_pnl += fill.realised_pnl
        position.round_fees += from_units(closing_fee)
        position.round_slippage += from_units(closing_slippage)
        if closing == abs(held):
            _end_round(account, position, order, fill, direction=1 if held > 0 else -1, grid=grid)
    opening = steps - closing
    if opening:
        value = notional(opening, fill.price_ticks, grid.unit_num, grid.unit_den)
        if position.entered_at is None:
            position.entered_at = fill.at
            position.entry_signal = order.signal
            position.stopped_direction = 0
        position.round_entry_steps += opening
        position.round_entry_value += from_units(value)
        position.round_fees += from_units(fee - closing_fee)
        position.round_slippage += from_units(slippage - closing_slippage)


def _end_round(
    account: Account, position: Position, order: Order, fill: Fill, *, direction: int, grid: Grid
) -> None:
    """Write the round trip that this fill ends, and begin with nothing again."""
    Trade.objects.create(
        account=account,
        instrument=position.instrument,
        strategy=position.entry_signal.strategy if position.entry_signal else MANUAL,
        direction=direction,
        quantity=grid.quantity_text(position.round_entry_steps),
        entry_price=_average_price(position.round_entry_value, position.round_entry_steps, grid),
        exit_price=_average_price(position.round_exit_value, position.round_exit_steps, grid),
        pnl=position.round_pnl,
        fees=position.round_fees,
        slippage=position.round_slippage,
        funding=position.round_funding,
        entered_at=position.entered_at or fill.at,
        exited_at=fill.at,
        exit_reason=order.reason if order.leg == OrderLeg.CLOSE else order.leg,
        exit_fill=fill,
    )
    nothing = from_units(0)
    position.round_entry_steps = position.round_exit_steps = 0
    position.round_entry_value = position.round_exit_value = nothing
    position.round_pnl = position.round_fees = nothing
    position.round_slippage = position.round_funding = nothing
    position.entry_signal = None
    position.entered_at = None
    position.stop_loss = position.take_profit = position.off_market_since = None
    if order.leg == OrderLeg.STOP_LOSS:
        position.stopped_direction = direction


def _follow_with_protection(
    account: Account, position: Position, order: Order, fill: Fill, before: int
) -> None:
    """Stops and targets follow what is held: none without a holding, new ones for a new side. An
    entry that rested and now meets the other side has a stop and a target for its own alone."""
    if position.direction == 0:
        cancel_working(
            position=position, which=REDUCTION | UNFILLED_ENTRY, reason=NOTHING_HELD, at=fill.at
        )
    elif position.direction != before:
        if before:
            cancel_working(position=position, which=REDUCTION, reason=TURNED, at=fill.at)
        protect_position(
            account=account,
            position=position,
            entry=order,
            stop_loss=order.stop_loss,
            take_profit=order.take_profit,
            at=fill.at,
        )
    elif order.leg == OrderLeg.OPEN and order.side == _entering_side(position):
        strengthen_protection(account=account, position=position, entry=order, at=fill.at)
    else:
        if order.leg == OrderLeg.STOP_LOSS:
            cancel_working(position=position, which=UNFILLED_ENTRY, reason=STOPPED, at=fill.at)
        resize_protection(position=position)


def _entering_side(position: Position) -> Side:
    return Side.BUY if position.direction > 0 else Side.SELL


def _average_price(value: Any, steps: int, grid: Grid) -> float:
    """What one base unit cost on average, for people; the books never compute with it."""
    if not steps:
        return math.nan
    ticks = to_units(value) * grid.unit_den / (steps * grid.unit_num)
    return ticks * grid.tick_num / grid.tick_den
