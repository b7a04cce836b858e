"""From a signal to its fills: move the position to the wanted state, once.

Design of the bookkeeping: what a signal has caused is read from the rows it leaves (orders and the
one decision per profile and signal), so a replay changes nothing. Only a signal that still waits
for a quote has a row that says so, its `PendingSignal`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import structlog
from django.db import transaction
from django.db.models import Q

from collectors import clock
from collectors.marketdata import duration, last_closed
from collectors.models import Instrument
from risk.assessment import Request
from risk.models import RiskDecision
from risk.selectors import StateInForce, state_in_force
from risk.services import assess, refuse
from signals.models import Signal
from signals.registry import OUTSIDE
from trading.backtest import NO_LISTING, NO_QUOTE, NOT_COUNTABLE, STOPPED_OUT
from trading.models import (
    ENTRY_LEGS,
    Account,
    Order,
    OrderKind,
    OrderLeg,
    OrderStatus,
    PendingSignal,
    Position,
    Side,
    TimeInForce,
)
from trading.orders import OrderError, transition
from trading.selectors import account_portfolio, candles_are_stale, done_attempts
from trading.services.accounts import locked_account
from trading.services.assessment import or_nan
from trading.services.attempts import UNREACHABLE, put_off_signal, record_done
from trading.services.booking import position_for
from trading.services.closing import close_at_market, meet_offer
from trading.services.granting import announce_decision
from trading.services.placing import Ticket, place_order
from trading.services.protection import cancel_working
from trading.services.quotes import STALE_CANDLES, Offer, current_offer
from trading.services.venues import NOT_TRADING, Venue

log = structlog.get_logger(__name__)
LATE = "late"
DESK_STALE = "desk_stale"
OVERTAKEN = "another signal wants otherwise"


def execute_signal(*, account: Account, signal: Signal, run_bar: datetime | None) -> None:
    """Do what the signal still asks for; leave it pending when no usable quote is there.

    `run_bar` is the bar run being worked off, None for the retry of a pending signal. Whoever
    comes late (the run is worked off, the signal was overtaken) changes nothing. What raises is
    put off, so that it holds up nothing else; raises what says that the database is out of reach.
    """
    started = time.perf_counter()
    try:
        offer = current_offer(account=account, instrument=signal.instrument, since=signal.at)
        with locked_account(account.pk) as current:
            if _is_still_due(current, signal, run_bar):
                is_done = _move_to_wanted(current, signal, offer, is_retry=run_bar is None)
                if is_done:
                    record_done(account=current, signal=signal, started=started)
    except UNREACHABLE:
        raise
    except Exception as error:
        put_off_signal(
            account_id=account.pk, signal=signal, run_bar=run_bar, error=error, started=started
        )


def _is_still_due(account: Account, signal: Signal, run_bar: datetime | None) -> bool:
    if not account.is_active:
        return False
    if run_bar is None:
        return PendingSignal.objects.filter(account=account, signal=signal).exists()
    if account.processed_bar is not None and account.processed_bar >= run_bar:
        return False
    # Another worker may have been first: one look spares all others.
    return not done_attempts(account=account, signal=signal).exists()


def _move_to_wanted(account: Account, signal: Signal, offer: Offer, *, is_retry: bool) -> bool:
    """Do what can be done now; whether that was all."""
    position = position_for(account=account, instrument=signal.instrument, venue=offer.venue)
    waiting = _waiting_on(account, signal.instrument)
    orders = _orders_around(account, signal)
    others = _entries_of_others(orders, signal)
    if _is_overtaken(signal, position, waiting, others):
        if waiting is not None and waiting.signal_id == signal.pk:
            waiting.delete()
        return True
    if position.stopped_direction not in (0, signal.direction):
        position.stopped_direction = 0
        position.save(update_fields=["stopped_direction"])
    closes, opens = transition(position.direction, signal.direction)
    # Once for each signal; and risk judges the whole of what is held then.
    opens = opens or (account.is_pyramiding and signal.direction == position.direction != 0)
    _cancel_overtaken(others, signal, position, at=offer.now)
    if closes and _has_closed(orders, signal):
        closes = opens = False
    opens = opens and not _is_decided(account, signal, orders)
    in_force = state_in_force(profile=account.profile)
    opens = opens and not _is_refused(account, signal, position, offer, in_force, is_retry=is_retry)
    if offer.quote is not None and offer.venue is not None:
        if closes:
            working = _working_close(orders, signal)
            closes = not _close_for(account, signal, position, offer.venue, offer, working)
        # While the desk is stale an entry waits, as it does for its own quote.
        if opens and not closes and not in_force.is_waiting:
            _open_or_refuse(account, signal, position, offer.venue, offer, in_force)
            opens = False
    if closes or opens:
        _keep_waiting(account, signal, waiting)
    elif waiting is not None:
        waiting.delete()
    return not (closes or opens)


def _waiting_on(account: Account, instrument: Instrument) -> PendingSignal | None:
    """The one signal that may wait for a quote of the instrument."""
    rows = PendingSignal.objects.filter(account=account, instrument=instrument)
    return rows.select_related("signal").first()


def _keep_waiting(account: Account, signal: Signal, waiting: PendingSignal | None) -> None:
    """Only the newest signal of an instrument waits: it replaces what waited."""
    if waiting is None:
        waiting = PendingSignal(account=account, instrument=signal.instrument)
    if waiting.signal_id != signal.pk:
        waiting.signal = signal
        waiting.save()


def _is_overtaken(
    signal: Signal, position: Position, waiting: PendingSignal | None, others: Sequence[Order]
) -> bool:
    """Whether something newer has opened what is held, or waits to: a bar run comes up to half a
    minute after its bar, and what is said outside comes at once."""
    if any(order.signal is not None and order.signal.at > signal.at for order in others):
        return True
    opened_by = position.entry_signal
    if position.quantity_steps and opened_by is not None and opened_by.at > signal.at:
        return True
    return waiting is not None and waiting.signal.at > signal.at


def _close_for(
    account: Account,
    signal: Signal,
    position: Position,
    venue: Venue,
    offer: Offer,
    working: Order | None,
) -> bool:
    """Close for a signal; whether nothing is held any more.

    What the market did not take yet goes on working; the other side waits for it.
    """
    try:
        close_at_market(
            account,
            position,
            venue,
            offer,
            bar=signal.bar_open_time,
            reason="flip" if signal.direction else "signal",
            signal=signal,
            working=working,
        )
    except OrderError as error:
        # Nothing of it was written. What is held can be counted, so it waits for a quote.
        log.error("close_impossible", signal=signal.pk, error=str(error))
        return False
    return position.quantity_steps == 0


def _is_refused(
    account: Account,
    signal: Signal,
    position: Position,
    offer: Offer,
    in_force: StateInForce,
    *,
    is_retry: bool,
) -> bool:
    """Whether the opening side is not even assessed: then a decision says why."""
    refusal = _refusal(signal, position, offer, in_force, is_retry=is_retry)
    if refusal:
        _refuse(account, signal, refusal, offer)
    return bool(refusal)


def _refusal(
    signal: Signal, position: Position, offer: Offer, in_force: StateInForce, *, is_retry: bool
) -> str:
    """Why the opening side of a signal is not even assessed; empty when it is."""
    if offer.venue is None:
        return NO_LISTING
    if not offer.venue.is_trading:
        return NOT_TRADING
    if position.stopped_direction == signal.direction:
        return STOPPED_OUT
    # Strategies are flat where their last bar is missing; outside nobody looks at our candles.
    if signal.strategy == OUTSIDE and candles_are_stale(instrument=signal.instrument, at=offer.now):
        return STALE_CANDLES
    if offer.now > _late_from(signal):
        return _waited_for(offer, in_force) if is_retry else LATE
    return ""


def _late_from(signal: Signal) -> datetime:
    """Until when a signal may open; later it only closes."""
    return signal.at + clock.current().widen(duration(signal.timeframe))


def _waited_for(offer: Offer, in_force: StateInForce) -> str:
    """What a signal waited for until it was too late."""
    if offer.quote is not None and in_force.is_waiting:
        return DESK_STALE
    return offer.problem or NO_QUOTE


def _open_or_refuse(
    account: Account,
    signal: Signal,
    position: Position,
    venue: Venue,
    offer: Offer,
    in_force: StateInForce,
) -> None:
    """Open, or refuse what the books cannot count; the close of a flip stands either way."""
    try:
        with transaction.atomic():
            _open_at_market(account, signal, position, venue, offer, in_force)
    except OrderError as error:
        log.error("order_impossible", signal=signal.pk, error=str(error))
        _refuse(account, signal, NOT_COUNTABLE, offer)


def _open_at_market(
    account: Account,
    signal: Signal,
    position: Position,
    venue: Venue,
    offer: Offer,
    in_force: StateInForce,
) -> None:
    grid = venue.grid
    ticks = offer.ticks(signal.direction, venue)
    # A signal from outside keeps to no grid of bars: the account's own says what had closed.
    bar = last_closed(signal.at, account.timeframe)
    bar = max(bar, account.processed_bar or bar)
    request = Request(
        direction=signal.direction,
        confidence=signal.confidence,
        price=grid.price(ticks),
        stop_loss=or_nan(signal.stop_loss),
        take_profit=or_nan(signal.take_profit),
        proposed_size=or_nan(signal.position_size),
        step_notional=grid.step_notional(ticks),
        min_notional=venue.min_notional,
    )
    decision, verdict = assess(
        profile=account.profile,
        portfolio=partial(account_portfolio, account=account, bar=bar, strategy=signal.strategy),
        instrument=signal.instrument,
        request=request,
        at=offer.now,
        closed_at=bar + duration(account.timeframe),
        in_force=in_force,
        signal=signal,
        context={"quote": offer.recorded(), "marked_at_bar": bar.isoformat()},
    )
    announce_decision(decision)
    if verdict.is_approved:
        order = place_order(
            account=account,
            instrument=signal.instrument,
            venue=venue,
            ticket=Ticket(
                leg=OrderLeg.OPEN,
                side=signal.direction,
                steps=verdict.steps,
                signal=signal,
                decision=decision,
                stop_loss=decision.stop_loss,
                take_profit=decision.take_profit,
                # What it does not get by then is as late as the signal would be.
                time_in_force=TimeInForce.GTD,
                expires_at=_late_from(signal),
            ),
            at=offer.now,
        )
        meet_offer(account, position, order, offer, bar=signal.bar_open_time)


def _orders_around(account: Account, signal: Signal) -> list[Order]:
    """What works on the signal's instrument, and all that the signal has ordered, in one query."""
    works = Q(instrument=signal.instrument, status=OrderStatus.WORKING)
    rows = Order.objects.filter(works | Q(signal=signal), account=account)
    return list(rows.select_related("decision").order_by("pk"))


def _entries_of_others(orders: Sequence[Order], signal: Signal) -> list[Order]:
    """What other signals have ordered and not got yet; what a person ordered is no signal's."""
    return [
        order
        for order in orders
        if order.leg in ENTRY_LEGS
        and order.kind == OrderKind.MARKET
        and order.signal_id not in (None, signal.pk)
    ]


def _cancel_overtaken(
    others: Sequence[Order], signal: Signal, position: Position, *, at: datetime
) -> None:
    """What entries of other signals did not get yet is not wanted any more, unless it adds to what
    is held as this signal wants it held. An order is on its way for a while: where nothing is held
    yet, one that says flat takes it back."""
    wanted = {1: Side.BUY, -1: Side.SELL}.get(signal.direction)
    adds = wanted if signal.direction == position.direction else None
    rests = [order.pk for order in others if order.side != adds]
    if rests:
        cancel_working(position=position, which=Q(pk__in=rests), reason=OVERTAKEN, at=at)


def _working_close(orders: Sequence[Order], signal: Signal) -> Order | None:
    """The signal's order that closes the position already."""
    for order in orders:
        if _closes(order, signal) and order.status == OrderStatus.WORKING:
            order.signal, order.instrument = signal, signal.instrument
            return order
    return None


def _has_closed(orders: Sequence[Order], signal: Signal) -> bool:
    """Whether the signal's close is over, though something is held: somebody else saw to it."""
    return any(_closes(order, signal) and order.status != OrderStatus.WORKING for order in orders)


def _closes(order: Order, signal: Signal) -> bool:
    return order.signal_id == signal.pk and order.leg == OrderLeg.CLOSE


def _is_decided(account: Account, signal: Signal, orders: Sequence[Order]) -> bool:
    if any(order.signal_id == signal.pk and order.leg == OrderLeg.OPEN for order in orders):
        return True
    return RiskDecision.objects.filter(profile=account.profile, signal=signal).exists()


def _refuse(account: Account, signal: Signal, reason: str, offer: Offer) -> None:
    decision = refuse(
        profile=account.profile,
        instrument=signal.instrument,
        direction=signal.direction,
        reason=reason,
        at=offer.now,
        signal=signal,
        context={"quote": offer.recorded(), "signal_at": signal.at.isoformat()},
    )
    announce_decision(decision)
