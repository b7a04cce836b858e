"""The orders that protect a position: its stop and its target, of which one cancels the other.

Runs inside the transaction of `locked_account`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from django.db.models import F, Q

from collectors import clock
from collectors.marketdata import duration, floor_time
from trading.models import (
    ENTRY_LEGS,
    PROTECTIVE_LEGS,
    Account,
    Order,
    OrderKind,
    OrderLeg,
    OrderStatus,
    Position,
    Side,
)
from trading.orders import Grid
from trading.services.placing import announce_orders
from trading.ticks import level_ticks

# How long after a bar's open an entry still counts as made at it: a bar run waits up to half a
# minute of market time for the last candle, and the strategies, the queue and the first quote take
# the rest. The clock widens it by what the machine itself takes; it never exceeds half a bar, so
# a fill is always judged on most of what its bar did after it.
AT_OPEN = timedelta(minutes=1)


def protect_position(
    *,
    account: Account,
    position: Position,
    entry: Order,
    stop_loss: float | None,
    take_profit: float | None,
    at: datetime,
) -> None:
    """Give a position a working stop and target (prices in quote units, None for none).

    They stand on ticks, the nearest ones, and the position says the prices that they stand at;
    the caller saves it.
    """
    grid = Grid.of(position.tick_size, position.quantity_step)
    orders = list(_protective_orders(account, position, entry, stop_loss, take_profit, at))
    Order.objects.bulk_create(orders)
    announce_orders()
    position.stop_loss = position.take_profit = None
    for order in orders:
        if order.trigger_ticks is not None:
            position.stop_loss = grid.price(order.trigger_ticks)
        elif order.limit_ticks is not None:
            position.take_profit = grid.price(order.limit_ticks)


def resize_protection(*, position: Position) -> None:
    """Let the stop and the target stand for all that is held now."""
    Order.objects.filter(
        account_id=position.account_id,
        instrument_id=position.instrument_id,
        status=OrderStatus.WORKING,
        leg__in=PROTECTIVE_LEGS,
    ).update(quantity_steps=F("filled_steps") + abs(position.quantity_steps))


def strengthen_protection(
    *, account: Account, position: Position, entry: Order, at: datetime
) -> None:
    """Let one stop and one target stand for all that is held after an entry added to it.

    Of two stops the one nearer to the market holds: adding never lets the part that was held lose
    more than it could before. The target is the newer one, the latest word on where the move ends.
    What has none yet gets the entry's. The caller saves the position.
    """
    grid = Grid.of(position.tick_size, position.quantity_step)
    working = {
        order.leg: order
        for order in Order.objects.filter(
            account=account,
            instrument=position.instrument,
            status=OrderStatus.WORKING,
            leg__in=PROTECTIVE_LEGS,
        )
    }
    lacking: dict[str, float | None] = {}
    for leg, column, price in (
        (OrderLeg.STOP_LOSS, "trigger_ticks", entry.stop_loss),
        (OrderLeg.TAKE_PROFIT, "limit_ticks", entry.take_profit),
    ):
        order = working.get(leg)
        if price is None:
            continue
        if order is None:
            lacking[leg] = price
            continue
        ticks, stands = level_ticks(price, grid.tick_num, grid.tick_den), getattr(order, column)
        is_nearer = stands is None or position.direction * (ticks - stands) > 0
        if ticks != stands and (leg == OrderLeg.TAKE_PROFIT or is_nearer):
            setattr(order, column, ticks)
            order.met_at = at  # what came before met it where it stood then
            order.save(update_fields=[column, "met_at"])
            name = "stop_loss" if leg == OrderLeg.STOP_LOSS else "take_profit"
            setattr(position, name, grid.price(ticks))
    _add_protection(account, position, entry, lacking, working, at)
    resize_protection(position=position)
    announce_orders()


def _add_protection(
    account: Account,
    position: Position,
    entry: Order,
    lacking: Mapping[str, float | None],
    working: Mapping[str, Order],
    at: datetime,
) -> None:
    """The orders that are lacking, in the group of those that there are. What a person took back
    of the same entry stays taken back."""
    stop, target = lacking.get(OrderLeg.STOP_LOSS), lacking.get(OrderLeg.TAKE_PROFIT)
    grid = Grid.of(position.tick_size, position.quantity_step)
    for order in _protective_orders(account, position, entry, stop, target, at):
        named = Q(key=_key(order.leg, entry)) | Q(key__startswith=f"{_key(order.leg, entry)}:")
        if Order.objects.filter(named, account=account).exists():
            continue
        for sibling in working.values():
            order.oco = sibling.oco
        order.save()
        if order.trigger_ticks is not None:
            position.stop_loss = grid.price(order.trigger_ticks)
        elif order.limit_ticks is not None:
            position.take_profit = grid.price(order.limit_ticks)


# What market orders of signals did not get at once. What a person placed is left alone.
UNFILLED_ENTRY = Q(leg__in=ENTRY_LEGS, kind=OrderKind.MARKET, signal__isnull=False)
# What could only shrink the position.
REDUCTION = ~Q(leg__in=ENTRY_LEGS)


def cancel_working(*, position: Position, which: Q, reason: str, at: datetime) -> int:
    """Cancel the working orders of the position's instrument that are such; how many there were."""
    working = Order.objects.filter(
        which,
        account_id=position.account_id,
        instrument_id=position.instrument_id,
        status=OrderStatus.WORKING,
    )
    return working.update(status=OrderStatus.CANCELLED, reason=reason, ended_at=at)


def _key(leg: str, entry: Order) -> str:
    """Names the stop or target of an entry."""
    return f"{leg}:{entry.pk}"


def first_judged_bar(*, filled_at: datetime, timeframe: str) -> datetime:
    """The open time of the first bar that may decide the stop and target of an entry.

    A bar that closed before the fill says nothing about the position. The bar of the fill counts
    when the fill came at its open, which is how the backtest has it; later in the bar its high
    and low may be from before the entry, so the next bar is the first.
    """
    bar, step = floor_time(filled_at, timeframe), duration(timeframe)
    came_at_open = filled_at - bar <= min(clock.current().widen(AT_OPEN), step / 2)
    return bar if came_at_open else bar + step


def _protective_orders(
    account: Account,
    position: Position,
    entry: Order,
    stop_loss: float | None,
    take_profit: float | None,
    at: datetime,
) -> Iterator[Order]:
    grid = Grid.of(position.tick_size, position.quantity_step)
    # An entry that was filled before, and what it opened left again, opens once more with the rest.
    is_first = entry.filled_steps == abs(position.quantity_steps)
    again = "" if is_first else f":{entry.filled_steps}"
    for leg, kind, column, price in (
        (OrderLeg.STOP_LOSS, OrderKind.STOP, "trigger_ticks", stop_loss),
        (OrderLeg.TAKE_PROFIT, OrderKind.LIMIT, "limit_ticks", take_profit),
    ):
        if price is None:
            continue
        ticks = level_ticks(price, grid.tick_num, grid.tick_den)
        yield Order(
            account=account,
            instrument=position.instrument,
            exchange=entry.exchange,
            symbol=entry.symbol,
            key=_key(leg, entry) + again,
            kind=kind,
            leg=leg,
            side=Side.SELL if position.quantity_steps > 0 else Side.BUY,
            quantity_steps=abs(position.quantity_steps),
            tick_size=position.tick_size,
            quantity_step=position.quantity_step,
            oco=f"entry:{entry.pk}",
            status=OrderStatus.WORKING,
            is_triggered=leg == OrderLeg.TAKE_PROFIT,  # it rests: nobody takes it at once
            judged_from=first_judged_bar(filled_at=at, timeframe=account.timeframe),
            at=at,
            **{column: ticks},
        )
