"""Working orders meet the market: what a quote, a book or a closed bar makes of them.

The same input met twice changes nothing: `met_at` of an order says up to where it has met the
market, it moves in the transaction of what it did, and a fill is unique by its order and the name
of what it met. What changed an order inside a bar leaves that bar nothing to decide about it: the
bar's high and low may be from before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import F

from collectors.marketdata import floor_time
from collectors.models import Instrument
from risk.selectors import state_in_force
from trading.encounters import BarMet, Encounter
from trading.models import (
    ENTRY_LEGS,
    PROTECTIVE_LEGS,
    Account,
    Fill,
    Liquidity,
    Order,
    OrderKind,
    OrderLeg,
    OrderStatus,
    Position,
    Side,
    TimeInForce,
)
from trading.orders import Grid, OrderError
from trading.services.accounts import locked_account
from trading.services.attempts import UNREACHABLE, record_done, record_failure
from trading.services.booking import Hit, book_fill, position_for
from trading.services.granting import assess_entry
from trading.services.placing import cancel_order
from trading.services.venues import venue_of_order
from trading.simulator import (
    LIMIT,
    MAKER,
    MARKET,
    NO_MATCH,
    STOP,
    STOP_LIMIT,
    TRAILING_STOP,
    Match,
    WorkingOrder,
    trigger_of,
)
from trading.slippage import BPS

log = structlog.get_logger(__name__)

KINDS = {
    OrderKind.MARKET: MARKET,
    OrderKind.LIMIT: LIMIT,
    OrderKind.STOP: STOP,
    OrderKind.STOP_LIMIT: STOP_LIMIT,
    OrderKind.TRAILING_STOP: TRAILING_STOP,
}
STOPS = (OrderKind.STOP, OrderKind.STOP_LIMIT, OrderKind.TRAILING_STOP)
EXPIRED = "its time is over"
NOT_AT_ONCE = "not filled at once"
SIBLING_FILLED = "the other order was filled"
OTHER_GRID = "its grid is not that of what is held"


def work_orders(*, account_id: int, instrument: Instrument, met: Encounter) -> list[Fill]:
    """Let the account's working orders of an instrument meet the market; the fills, in order.

    Stops come before targets, those before other reductions, entries last, and older orders before
    younger ones. One input may fill several. Raises Account.DoesNotExist.
    """
    with locked_account(account_id) as account:
        return _work(account, instrument, met)


def expire_orders(*, account_id: int, at: datetime) -> int:
    """End the working orders whose time is over at a market time; how many there were."""
    with locked_account(account_id) as account:
        over = Order.objects.filter(account=account, status=OrderStatus.WORKING, expires_at__lte=at)
        return over.update(status=OrderStatus.EXPIRED, reason=EXPIRED, ended_at=F("expires_at"))


def would_change(*, account: Account, orders: Iterable[Order], met: Encounter) -> bool:
    """Whether the input would do anything to the orders: a look without the lock, never too
    little."""
    for order in orders:
        if _is_over(order, met.at):
            return True
        if _may_meet(account, order, met) and _changes(order, _match_alone(order, met)):
            return True
    return False


def meet_order(
    *,
    account: Account,
    position: Position,
    order: Order,
    match: Match,
    met: Encounter,
    at: datetime | None = None,
    bar: datetime | None = None,
) -> Fill | None:
    """Book what a match gave to an order, and what follows from it for its siblings.

    `at` is when it counts as filled (by default when the input was there) and `bar` the open time
    of the bar that it belongs to. None when nothing was filled. Raises OrderError when the books
    cannot count it: the caller has a savepoint to go back to.
    """
    grid = Grid.of(order.tick_size, order.quantity_step)
    working = as_working(order, position)
    order.watermark_ticks = match.watermark_ticks or None
    order.is_triggered = match.is_triggered
    order.met_at = met.at
    show_trail(position, order, working)
    if not match.steps:
        order.save(update_fields=["watermark_ticks", "is_triggered", "met_at"])
        _end_if_immediate(order, met.at)
        return None
    fill = book_fill(
        account=account,
        position=position,
        order=order,
        hit=Hit(
            steps=match.steps,
            ticks=match.ticks,
            reference_ticks=match.reference_ticks,
            slippage_bps=_slippage_bps(working.side, match),
            trigger=met.trigger,
            at=at or met.at,
            bar=bar or _bar_of(account, met),
            quote=met.record(working, grid),
            liquidity=Liquidity.MAKER if match.liquidity == MAKER else Liquidity.TAKER,
        ),
    )
    _follow_with_siblings(order, fill)
    _end_if_immediate(order, met.at)
    return fill


def as_working(order: Order, position: Position | None) -> WorkingOrder:
    """The order as the simulator takes it. What only reduces never asks for more than is held of
    `position`; None leaves that open."""
    side = 1 if order.side == Side.BUY else -1
    remaining = order.remaining_steps
    if position is not None and order.leg not in ENTRY_LEGS:
        held = -side * position.quantity_steps
        remaining = max(0, min(remaining, held))
    return WorkingOrder(
        kind=KINDS[OrderKind(order.kind)],
        side=side,
        remaining_steps=remaining,
        limit_ticks=order.limit_ticks or 0,
        trigger_ticks=order.trigger_ticks or 0,
        trail_ticks=order.trail_ticks or 0,
        watermark_ticks=order.watermark_ticks or 0,
        is_triggered=order.is_triggered,
    )


def show_trail(position: Position, order: Order, working: WorkingOrder) -> None:
    """A stop that follows the market is the position's stop where it now stands."""
    if order.leg != OrderLeg.STOP_LOSS or working.kind != TRAILING_STOP or order.is_triggered:
        return
    stands_at = trigger_of(working, order.watermark_ticks or 0)
    position.stop_loss = _grid(order).price(stands_at)
    position.save(update_fields=["stop_loss"])


def working_orders(*, account: Account, instrument: Instrument) -> list[Order]:
    """The working orders of an instrument in the order in which they meet the market."""
    rows = Order.objects.filter(
        account=account, instrument=instrument, status=OrderStatus.WORKING
    ).select_related("instrument", "signal", "decision")
    return sorted(rows, key=_rank)


@dataclass(frozen=True, kw_only=True)
class _Found:
    order: Order
    match: Match


def _work(account: Account, instrument: Instrument, met: Encounter) -> list[Fill]:
    fills: list[Fill] = []
    seen: set[int] = set()
    if isinstance(met, BarMet) and not met.is_sound:
        return fills
    while True:
        rows = working_orders(account=account, instrument=instrument)
        for order in rows:
            if order.expires_at is not None and _is_over(order, met.at):
                cancel_order(
                    order=order,
                    reason=EXPIRED,
                    at=order.expires_at,
                    status=OrderStatus.EXPIRED,
                )
        rows = [
            row
            for row in rows
            if row.status == OrderStatus.WORKING
            and row.pk not in seen
            and _may_meet(account, row, met)
        ]
        if not rows:
            return fills
        position = position_for(
            account=account, instrument=instrument, venue=venue_of_order(rows[0])
        )
        found = _first_filled(rows, position, met)
        if found is None:
            break
        # Whatever becomes of it: it has met this input.
        seen.add(found.order.pk)
        fill = _take(account, position, found, met)
        if fill is not None:
            fills.append(fill)
            if isinstance(met, BarMet) and found.order.leg in ENTRY_LEGS:
                fills += _stopped_at_once(account, position, fill, met)
    for order in rows:
        match = met.match(as_working(order, position), _grid(order))
        if _changes(order, match):
            meet_order(account=account, position=position, order=order, match=match, met=met)
    return fills


def _stopped_at_once(account: Account, position: Position, entry: Fill, bar: BarMet) -> list[Fill]:
    """The stop of what a bar has just opened, judged by the rest of that bar.

    Nobody knows what came first, so the bar's worst price counts as having come after the entry.
    """
    price = _grid(entry.order).price(entry.price_ticks)
    rest = replace(bar, open=price, high=max(bar.high, price), low=min(bar.low, price))
    stops = Order.objects.filter(
        account=account,
        leg=OrderLeg.STOP_LOSS,
        oco=f"entry:{entry.order_id}",
        status=OrderStatus.WORKING,
    ).select_related("instrument", "signal", "decision")
    fills = []
    for order in stops:
        match = rest.match(as_working(order, position), _grid(order))
        if match.steps:
            found = _Found(order=order, match=match)
            fills.append(_take(account, position, found, rest))
    return [fill for fill in fills if fill is not None]


def _first_filled(rows: Sequence[Order], position: Position, met: Encounter) -> _Found | None:
    found = met.first([as_working(row, position) for row in rows], [_grid(row) for row in rows])
    return None if found is None else _Found(order=rows[found[0]], match=found[1])


def _take(account: Account, position: Position, found: _Found, met: Encounter) -> Fill | None:
    """Fill the order, unless risk refuses the entry; what raises holds up no other order."""
    order, match, started = found.order, found.match, time.perf_counter()
    try:
        with transaction.atomic():
            if order.leg in ENTRY_LEGS:
                if not _counts_alike(position, order):
                    cancel_order(order=order, reason=OTHER_GRID, at=met.at)
                    return None
                if state_in_force(profile=account.profile).is_waiting:
                    return None  # it may still fill once prices are fresh again
                granted = _granted(account, order, match, met.at)
                if granted is None:
                    return None
                match = granted
            fill = meet_order(account=account, position=position, order=order, match=match, met=met)
            record_done(account=account, order=order, started=started)
            return fill
    except OrderError as error:
        # Nothing of it was written; another price may do.
        log.error("fill_impossible", order=order.pk, trigger=met.trigger, error=str(error))
    except UNREACHABLE:
        raise
    except Exception as error:
        record_failure(account=account, error=error, started=started, order=order)
    return None


def _granted(account: Account, order: Order, match: Match, at: datetime) -> Match | None:
    """What risk grants of an entry's fill; None when it refuses, and the order is cancelled.

    Where it grants less than the order asks for, the rest is not wanted any more.
    """
    side = 1 if order.side == Side.BUY else -1
    decision, verdict = assess_entry(
        account=account, order=order, side=side, steps=match.steps, ticks=match.ticks, at=at
    )
    if not verdict.is_approved:
        cancel_order(order=order, reason=verdict.reason, at=at)
        return None
    # What let it in first stays its decision; this one names the order.
    order.decision = order.decision or decision
    order.stop_loss = decision.stop_loss if order.stop_loss is None else order.stop_loss
    order.take_profit = decision.take_profit if order.take_profit is None else order.take_profit
    fields = ["decision", "stop_loss", "take_profit"]
    if verdict.steps < match.steps:
        order.quantity_steps = order.filled_steps + verdict.steps
        match = match._replace(steps=verdict.steps)
        fields.append("quantity_steps")
    order.save(update_fields=fields)
    return match


def _may_meet(account: Account, order: Order, met: Encounter) -> bool:
    if isinstance(met, BarMet):
        # A market order waits for a quote; and nobody knows where in its bar it expired.
        since = order.judged_from or order.at
        return (
            order.kind != OrderKind.MARKET
            and met.open_time >= since
            and (order.met_at is None or met.open_time >= order.met_at)
        )
    arrives = order.at + timedelta(milliseconds=account.latency_ms)
    return met.since >= arrives and (order.met_at is None or met.since > order.met_at)


def _counts_alike(position: Position, order: Order) -> bool:
    """Whether the order's steps can be added to what is held: venues change their grids, and what
    is held counts on the one that it was opened on until it is flat."""
    grid = (order.tick_size, order.quantity_step)
    return not position.quantity_steps or grid == (position.tick_size, position.quantity_step)


def _is_over(order: Order, at: datetime) -> bool:
    return order.expires_at is not None and order.expires_at <= at


def _changes(order: Order, match: Match) -> bool:
    return match.action != NO_MATCH or match.watermark_ticks != (order.watermark_ticks or 0)


def _match_alone(order: Order, met: Encounter) -> Match:
    return met.match(as_working(order, None), _grid(order))


def _follow_with_siblings(order: Order, fill: Fill) -> None:
    """What one order of a group filled, the others must not. Stops and targets follow what is
    held, so the books see to those."""
    if not order.oco:
        return
    siblings = Order.objects.filter(
        account_id=order.account_id, oco=order.oco, status=OrderStatus.WORKING
    ).exclude(pk=order.pk)
    for sibling in siblings.exclude(leg__in=PROTECTIVE_LEGS):
        if order.remaining_steps and sibling.remaining_steps > fill.quantity_steps:
            sibling.quantity_steps -= fill.quantity_steps
            sibling.save(update_fields=["quantity_steps"])
        else:
            cancel_order(order=sibling, reason=SIBLING_FILLED, at=fill.at)


def _end_if_immediate(order: Order, at: datetime) -> None:
    """What an order that does not wait did not get when it met the market, it never gets. A stop
    meets it when it is set off."""
    waits = order.kind in STOPS and not order.is_triggered
    if order.time_in_force == TimeInForce.IOC and order.remaining_steps and not waits:
        cancel_order(order=order, reason=NOT_AT_ONCE, at=at)


def _rank(order: Order) -> tuple[int, int]:
    if order.leg in ENTRY_LEGS:
        return 3, order.pk
    if order.leg == OrderLeg.LIQUIDATION or order.kind in STOPS:
        return 0, order.pk
    return (1 if order.leg == OrderLeg.TAKE_PROFIT else 2), order.pk


def _bar_of(account: Account, met: Encounter) -> datetime:
    if isinstance(met, BarMet):
        return met.open_time
    return floor_time(met.at, account.timeframe)


def _slippage_bps(side: int, match: Match) -> float:
    """What was paid beyond the price that was there."""
    return BPS * side * (match.ticks - match.reference_ticks) / match.reference_ticks


def _grid(order: Order) -> Grid:
    return Grid.of(order.tick_size, order.quantity_step)
