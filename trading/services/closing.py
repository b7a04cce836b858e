"""Leaving a position at what the market gives now, for a signal or by a person.

TradingError
└── NoQuoteError    a person's order met no usable quote (retryable)
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from collectors.marketdata import last_closed
from collectors.models import Instrument
from signals.models import Signal
from trading.models import (
    Account,
    Fill,
    Order,
    OrderKind,
    OrderLeg,
    OrderStatus,
    PendingSignal,
    Position,
)
from trading.orders import Grid, OrderError
from trading.services.accounts import locked_account
from trading.services.booking import MANUAL, position_for
from trading.services.matching import as_working, meet_order
from trading.services.placing import Ticket, place_order
from trading.services.quotes import Offer, current_offer
from trading.services.venues import Venue


class TradingError(Exception):
    """An order by a person cannot be carried out. Nothing was written."""


class NoQuoteError(TradingError):
    """There is no fresh quote to trade at. Try again."""


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
            return close_at_market(
                current,
                position,
                offer.venue,
                offer,
                bar=bar,
                reason=MANUAL,
                signal=None,
                working=_close_by_person(current, position),
            )
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


def close_at_market(
    account: Account,
    position: Position,
    venue: Venue,
    offer: Offer,
    *,
    bar: datetime,
    reason: str,
    signal: Signal | None,
    working: Order | None,
) -> Fill | None:
    """Close everything held, on the grid that it was opened on, as far as the market takes it.

    A signal closes once: what its `working` order did not get, that goes on asking for.
    """
    with transaction.atomic():
        order = working
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


def _close_by_person(account: Account, position: Position) -> Order | None:
    """The order of a person that closes the position already."""
    working = Order.objects.filter(
        account=account,
        instrument=position.instrument,
        signal=None,
        leg=OrderLeg.CLOSE,
        kind=OrderKind.MARKET,
        status=OrderStatus.WORKING,
    )
    return working.select_related("instrument", "signal", "decision").first()
