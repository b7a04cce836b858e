"""From a signal to its fills: move the position to the wanted state, once.

Design of the bookkeeping: what a signal has caused is read from the rows it leaves (orders and the
one decision per profile and signal), so a replay changes nothing. Only a signal that still waits
for a quote has a row that says so, its `PendingSignal`.

    TradingError
    └── NoQuoteError    a person's order met no usable quote (retryable)
"""

from __future__ import annotations

import time
from datetime import datetime
from functools import partial

import structlog
from django.db import transaction

from collectors import clock
from collectors.marketdata import duration, last_closed
from collectors.models import Instrument
from risk.assessment import Request
from risk.models import RiskDecision
from risk.selectors import state_in_force
from risk.services import assess, refuse
from signals.models import Signal
from trading.backtest import NO_LISTING, NO_QUOTE, NOT_COUNTABLE, STOPPED_OUT
from trading.models import (
    Account,
    Fill,
    Order,
    OrderKind,
    OrderLeg,
    OrderStatus,
    PendingSignal,
    Position,
    TimeInForce,
)
from trading.orders import Grid, OrderError, transition
from trading.selectors import account_portfolio
from trading.services.accounts import locked_account
from trading.services.assessment import or_nan
from trading.services.attempts import UNREACHABLE, put_off_signal, record_done
from trading.services.booking import MANUAL, position_for
from trading.services.granting import announce_decision
from trading.services.matching import as_working, meet_order
from trading.services.placing import Ticket, place_order
from trading.services.protection import cancel_unfilled_entries
from trading.services.quotes import Offer, current_offer
from trading.services.venues import NOT_TRADING, Venue

log = structlog.get_logger(__name__)
LATE = "late"
DESK_STALE = "desk_stale"
OVERTAKEN = "another signal wants otherwise"


class TradingError(Exception):
    """An order by a person cannot be carried out. Nothing was written."""


class NoQuoteError(TradingError):
    """There is no fresh quote to trade at. Try again."""


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


def close_position(*, account_id: int, coin_id: str, offer: Offer | None = None) -> Fill | None:
    """Close what the account holds of an instrument, by a person.

    None when it holds nothing, and when the market gave nothing yet: then the order works. Works in
    every trading state. Inside a transaction the `offer` is given, as reading it reads Redis.
    Raises NoQuoteError.
    """
    account = Account.objects.get(pk=account_id)
    instrument = Instrument.objects.get(coin_id=coin_id)
    offer = offer or current_offer(account=account, instrument=instrument, since=None)
    with locked_account(account_id) as current:
        position = position_for(account=current, instrument=instrument, venue=offer.venue)
        if not position.quantity_steps:
            return None
        if offer.quote is None or offer.venue is None:
            raise NoQuoteError(f"no fresh quote of {coin_id} at {current.exchange}")
        PendingSignal.objects.filter(account=current, instrument=instrument).delete()
        bar = last_closed(offer.now, current.timeframe)
        try:
            return _close_at_market(current, position, offer.venue, offer, bar=bar, reason=MANUAL)
        except OrderError as error:
            raise NoQuoteError(str(error)) from None


def meet_offer(
    account: Account, position: Position, order: Order, offer: Offer, *, bar: datetime
) -> Fill | None:
    """Let a market order meet what there is now, unless it cannot be at the venue yet."""
    met = offer.met()
    if not offer.is_reachable or (order.met_at is not None and met.at <= order.met_at):
        return None
    match = met.match(as_working(order, position), Grid.of(order.tick_size, order.quantity_step))
    return meet_order(
        account=account, position=position, order=order, match=match, met=met, at=offer.now, bar=bar
    )


def _is_still_due(account: Account, signal: Signal, run_bar: datetime | None) -> bool:
    if not account.is_active:
        return False
    if run_bar is None:
        return PendingSignal.objects.filter(account=account, signal=signal).exists()
    return account.processed_bar is None or account.processed_bar < run_bar


def _move_to_wanted(account: Account, signal: Signal, offer: Offer, *, is_retry: bool) -> bool:
    """Do what can be done now; whether that was all."""
    position = position_for(account=account, instrument=signal.instrument, venue=offer.venue)
    if _is_overtaken(account, signal, position):
        PendingSignal.objects.filter(account=account, signal=signal).delete()
        return True
    if position.stopped_direction not in (0, signal.direction):
        position.stopped_direction = 0
        position.save(update_fields=["stopped_direction"])
    closes, opens = transition(position.direction, signal.direction)
    # Once for each signal; and risk judges the whole of what is held then.
    opens = opens or (account.is_pyramiding and signal.direction == position.direction != 0)
    if signal.direction != position.direction:
        cancel_unfilled_entries(position=position, reason=OVERTAKEN, at=offer.now, of=signal)
    if closes and _has_closed(account, signal):
        closes = opens = False
    if opens and _is_decided(account, signal):
        opens = False
    if opens:
        refusal = _refusal(account, signal, position, offer, is_retry=is_retry)
        if refusal:
            _refuse(account, signal, refusal, offer)
            opens = False
    if closes and offer.quote is not None and offer.venue is not None:
        try:
            _close_at_market(
                account,
                position,
                offer.venue,
                offer,
                bar=signal.bar_open_time,
                reason="flip" if signal.direction else "signal",
                signal=signal,
            )
            # What the market did not take yet goes on working; the other side waits for it.
            closes = position.quantity_steps != 0
        except OrderError as error:
            # Nothing of it was written. What is held can be counted, so it waits for a quote.
            log.error("close_impossible", signal=signal.pk, error=str(error))
    if opens and not closes and offer.quote is not None and offer.venue is not None:
        # While the desk is stale an entry waits, as it does for its own quote.
        if not state_in_force(profile=account.profile).is_waiting:
            _open_or_refuse(account, signal, position, offer.venue, offer)
            opens = False
    _keep_pending(account, signal, is_pending=closes or opens)
    return not (closes or opens)


def _is_overtaken(account: Account, signal: Signal, position: Position) -> bool:
    """Whether something newer has opened what is held, or waits to: a bar run comes up to half a
    minute after its bar, and what is said outside comes at once."""
    opened_by = position.entry_signal
    if position.quantity_steps and opened_by is not None and opened_by.at > signal.at:
        return True
    waiting = PendingSignal.objects.filter(account=account, instrument=signal.instrument)
    return waiting.filter(signal__at__gt=signal.at).exists()


def _refusal(
    account: Account, signal: Signal, position: Position, offer: Offer, *, is_retry: bool
) -> str:
    """Why the opening side of a signal is not even assessed; empty when it is."""
    if offer.venue is None:
        return NO_LISTING
    if not offer.venue.is_trading:
        return NOT_TRADING
    if position.stopped_direction == signal.direction:
        return STOPPED_OUT
    if offer.now > _late_from(signal):
        return _waited_for(account, offer) if is_retry else LATE
    return ""


def _late_from(signal: Signal) -> datetime:
    """Until when a signal may open; later it only closes."""
    return signal.at + clock.current().widen(duration(signal.timeframe))


def _waited_for(account: Account, offer: Offer) -> str:
    """What a signal waited for until it was too late."""
    if offer.quote is not None and state_in_force(profile=account.profile).is_waiting:
        return DESK_STALE
    return offer.problem or NO_QUOTE


def _open_or_refuse(
    account: Account, signal: Signal, position: Position, venue: Venue, offer: Offer
) -> None:
    """Open, or refuse what the books cannot count; the close of a flip stands either way."""
    try:
        with transaction.atomic():
            _open_at_market(account, signal, position, venue, offer)
    except OrderError as error:
        log.error("order_impossible", signal=signal.pk, error=str(error))
        _refuse(account, signal, NOT_COUNTABLE, offer)


def _open_at_market(
    account: Account, signal: Signal, position: Position, venue: Venue, offer: Offer
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


def _close_at_market(
    account: Account,
    position: Position,
    venue: Venue,
    offer: Offer,
    *,
    bar: datetime,
    reason: str,
    signal: Signal | None = None,
) -> Fill | None:
    """Close everything held, on the grid that it was opened on, as far as the market takes it.

    A signal closes once: what its order did not get, the order goes on asking for.
    """
    with transaction.atomic():
        order = _working_close(account, position, signal)
        if order is None:
            order = place_order(
                account=account,
                instrument=position.instrument,
                venue=venue.on_grid_of(position),
                ticket=Ticket(
                    leg=OrderLeg.CLOSE,
                    side=-position.direction,
                    steps=abs(position.quantity_steps),
                    signal=signal,
                    reason=reason,
                ),
                at=offer.now,
            )
        return meet_offer(account, position, order, offer, bar=bar)


def _working_close(account: Account, position: Position, signal: Signal | None) -> Order | None:
    """The order that closes the position already, of this signal or of a person."""
    working = Order.objects.filter(
        account=account,
        instrument=position.instrument,
        signal=signal,
        leg=OrderLeg.CLOSE,
        kind=OrderKind.MARKET,
        status=OrderStatus.WORKING,
    )
    return working.select_related("instrument", "signal", "decision").first()


def _keep_pending(account: Account, signal: Signal, *, is_pending: bool) -> None:
    """Only the newest signal of an instrument may wait; it replaces or clears what waited."""
    if is_pending:
        PendingSignal.objects.update_or_create(
            account=account, instrument=signal.instrument, defaults={"signal": signal}
        )
    else:
        PendingSignal.objects.filter(account=account, instrument=signal.instrument).delete()


def _is_decided(account: Account, signal: Signal) -> bool:
    return (
        RiskDecision.objects.filter(profile=account.profile, signal=signal).exists()
        or Order.objects.filter(account=account, signal=signal, leg=OrderLeg.OPEN).exists()
    )


def _has_closed(account: Account, signal: Signal) -> bool:
    """Whether the signal's close is over, though something is held: somebody else saw to it."""
    closes = Order.objects.filter(account=account, signal=signal, leg=OrderLeg.CLOSE)
    return closes.exclude(status=OrderStatus.WORKING).exists()


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
