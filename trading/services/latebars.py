"""Bars whose true candle comes after they were worked off.

A bar without a true candle, missing or built from samples, decides nothing when its turn comes. So
it is remembered, and when its candle is there, the stops that rested then meet it. What is known
late is no price to trade at any more: a stop that the candle has passed is set off there and then,
and fills at the first prices after that moment. Nothing else comes of such a bar: no limit fills at
a price of the past, and no entry begins with one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import structlog
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Coalesce

from collectors import clock
from collectors.marketdata import duration
from collectors.models import Ohlcv
from trading.encounters import BarMet
from trading.models import (
    ENTRY_LEGS,
    Account,
    MissedBar,
    Order,
    OrderKind,
    OrderLeg,
    OrderStatus,
    Position,
)
from trading.orders import Grid
from trading.services.accounts import locked_account
from trading.services.matching import STOPS, as_working, show_trail, working_orders
from trading.services.placing import announce_orders

log = structlog.get_logger(__name__)

MOST_BARS = 1000  # of an account, in one look


def remember_missed(
    *,
    account: Account,
    waiting: Iterable[Order],
    there: Iterable[Ohlcv],
    first: datetime,
    until: datetime,
) -> None:
    """Write which bars from `first` to `until` (open times) have no true candle among those that
    are `there`, for the instruments of stops that rested by then."""
    rested: dict[int, datetime] = {}
    for order in filter(_could_be_set_off, waiting):
        since = _since(order)
        rested[order.instrument_id] = min(since, rested.get(order.instrument_id, since))
    known = {(candle.instrument_id, candle.open_time) for candle in there}
    missed: list[MissedBar] = []
    bar, step = first, duration(account.timeframe)
    while bar <= until and len(missed) < MOST_BARS:
        missed += [
            MissedBar(account=account, instrument_id=pk, timeframe=account.timeframe, open_time=bar)
            for pk, since in rested.items()
            if since <= bar and (pk, bar) not in known
        ]
        bar += step
    MissedBar.objects.bulk_create(missed, ignore_conflicts=True)


def judge_late_bars(*, account: Account) -> int:
    """Let the account's stops meet the candles that came late, oldest first; how many were set
    off. Locks nothing where there is nothing to do: some candles never come."""
    # Most accounts have missed nothing, and all are asked every few seconds.
    if account.processed_bar is None or not MissedBar.objects.filter(account=account).exists():
        return 0
    missed = list(_to_judge(account, account.processed_bar)[:MOST_BARS])
    if not missed:
        return 0
    candles = Ohlcv.objects.filter(
        instrument__in={row.instrument_id for row in missed},
        timeframe__in={row.timeframe for row in missed},
        open_time__in={row.open_time for row in missed},
        is_sampled=False,
    )
    found = {(row.instrument_id, row.timeframe, row.open_time): row for row in candles}
    over: list[int] = []
    with locked_account(account.pk) as current:
        set_off = 0
        rest: dict[int, list[Order]] = {}
        for row in missed:
            if row.instrument_id not in rest:
                working = working_orders(account=current, instrument=row.instrument)
                rest[row.instrument_id] = working
            orders = [
                order
                for order in rest[row.instrument_id]
                if _could_be_set_off(order) and _since(order) <= row.open_time
            ]
            candle = found.get((row.instrument_id, row.timeframe, row.open_time))
            if candle is not None:
                met = bar_met(candle, row.timeframe)
                set_off += sum(_judge(order, met) for order in orders)
            if candle is not None or not orders:
                over.append(row.pk)
        MissedBar.objects.filter(pk__in=over).delete()
        if set_off:
            announce_orders()
    return set_off


def _to_judge(account: Account, until: datetime) -> QuerySet[MissedBar]:
    """The missed bars until a moment whose candle is there by now, or that no stop waits for."""
    candles = Ohlcv.objects.filter(
        instrument=OuterRef("instrument"),
        timeframe=OuterRef("timeframe"),
        open_time=OuterRef("open_time"),
        is_sampled=False,
    )
    stops = (
        Order.objects.filter(
            account=account,
            instrument=OuterRef("instrument"),
            status=OrderStatus.WORKING,
            kind__in=STOPS,
            is_triggered=False,
        )
        .exclude(leg__in=ENTRY_LEGS)
        .annotate(since=Coalesce("judged_from", "at"))
        .filter(since__lte=OuterRef("open_time"))
    )
    return (
        MissedBar.objects.filter(account=account, open_time__lte=until)
        .filter(Exists(candles) | ~Exists(stops))
        .select_related("instrument")
        .order_by("open_time")
    )


def bar_met(candle: Ohlcv, timeframe: str) -> BarMet:
    """A stored candle as what orders meet."""
    return BarMet(
        open_time=candle.open_time,
        close_time=candle.open_time + duration(timeframe),
        open=candle.open,
        high=candle.high,
        low=candle.low,
        close=candle.close,
        source=candle.source,
    )


def _could_be_set_off(order: Order) -> bool:
    return order.kind in STOPS and not order.is_triggered and order.leg not in ENTRY_LEGS


def _since(order: Order) -> datetime:
    return order.judged_from or order.at


def _judge(order: Order, met: BarMet) -> bool:
    """Let a stop meet a bar of the past; whether that set it off."""
    is_trailing = order.kind == OrderKind.TRAILING_STOP
    has_changed_since = order.met_at is not None and order.met_at > met.open_time
    if not met.is_sound or (has_changed_since and not is_trailing):
        return False  # nobody knows where it stood then
    working = as_working(order, None)
    if has_changed_since:
        # Where a trail stood at the open is forgotten, but not behind the open itself.
        working = working._replace(watermark_ticks=0)
    match = met.match(working, Grid.of(order.tick_size, order.quantity_step))
    if match.is_triggered:
        _set_off(order, met)
    elif is_trailing:
        _trail(order, match.watermark_ticks, met)
    return match.is_triggered


def _set_off(order: Order, met: BarMet) -> None:
    now = clock.now()
    order.is_triggered = True
    order.met_at = now if order.met_at is None else max(order.met_at, now)
    if order.leg != OrderLeg.CLOSE:  # its reason becomes that of the trade which it ends
        order.reason = f"set off by the candle of {met.open_time:%Y-%m-%d %H:%M}, which came late"
    order.save(update_fields=["is_triggered", "met_at", "reason"])
    log.warning("stop_set_off_late", order=order.pk, bar=met.open_time.isoformat())


def _trail(order: Order, watermark: int, met: BarMet) -> None:
    """Let a trailing stop follow where the bar really went, if that is beyond where it stands."""
    working = as_working(order, None)
    best = max if working.side < 0 else min
    followed = best(watermark, order.watermark_ticks or watermark)
    if followed == order.watermark_ticks:
        return
    order.watermark_ticks = followed
    order.met_at = met.at if order.met_at is None else max(order.met_at, met.at)
    order.save(update_fields=["watermark_ticks", "met_at"])
    position = Position.objects.get(account=order.account_id, instrument=order.instrument_id)
    show_trail(position, order, working)
