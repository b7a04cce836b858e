"""Orders by a person: placed, cancelled, closed, flattened.

What may enlarge the exposure is assessed by risk as a signal is. What only shrinks it is not: it
works in every trading state, and can never turn the position. An order that is larger than what
risk grants is refused with the granted quantity, not cut: who asked for one bitcoin and got a tenth
would hold another position than they think.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any
from uuid import uuid4

from django.db import transaction

from collectors import clock
from collectors.marketdata import last_closed
from collectors.models import Instrument
from risk.assessment import Request, Verdict
from risk.models import RiskDecision
from risk.services import assess, refuse
from trading.models import (
    PROTECTIVE_LEGS,
    Account,
    Fill,
    Order,
    OrderKind,
    OrderLeg,
    OrderStatus,
    PendingSignal,
    Position,
)
from trading.orders import OrderError
from trading.selectors import account_portfolio, candles_are_stale, open_positions
from trading.services import placing
from trading.services.accounts import locked_account
from trading.services.assessment import or_nan
from trading.services.booking import MANUAL, position_for
from trading.services.closing import NoQuoteError, close_position, meet_offer
from trading.services.granting import announce_decision
from trading.services.placing import Ticket
from trading.services.quotes import STALE_CANDLES, Offer, current_offer
from trading.services.tickets import Drafted, HandOrder, Refused, draft_tickets
from trading.services.venues import Venue

MOST_WORKING = 200  # per account; Binance USD-M lets a symbol have as many (MAX_NUM_ORDERS)
LARGER = "larger_than_granted"


@dataclass(frozen=True, kw_only=True)
class HandOutcome:
    """What became of an order by hand: its rows, or why there are none.

    Either `refusal` is set, and the only row is its `decision`, or `orders` are.
    """

    orders: tuple[Order, ...] = ()
    decision: RiskDecision | None = None
    refusal: Refused | None = None


@dataclass(frozen=True, kw_only=True)
class Flattening:
    """What flattening an account did; `left` says for each instrument why it is still held."""

    fills: tuple[Fill, ...]
    cancelled: int
    left: Mapping[str, str] = field(default_factory=dict)


def read_offer(*, account_id: int, coin_id: str) -> Offer:
    """The venue and the quote for an order by hand. Reads Redis: never in a transaction.

    Raises Account.DoesNotExist and Instrument.DoesNotExist.
    """
    account = Account.objects.get(pk=account_id)
    instrument = Instrument.objects.get(coin_id=coin_id)
    return current_offer(account=account, instrument=instrument, since=None)


def place_hand_order(
    *, account_id: int, asked: HandOrder, offer: Offer | None = None
) -> HandOutcome:
    """Place what a person asks for; a market order is filled at once, others work.

    A refusal is a value, and a row of risk. Raises Account.DoesNotExist, Instrument.DoesNotExist.
    """
    instrument = Instrument.objects.get(coin_id=asked.coin_id)
    offer = offer or read_offer(account_id=account_id, coin_id=asked.coin_id)
    with locked_account(account_id) as account:
        try:
            with transaction.atomic():
                return _place(account, instrument, asked, offer)
        except Refused as refused:
            return _refusal(account, instrument, asked, offer, refused)
        except OrderError as error:
            why = Refused("not_countable", str(error))
            return _refusal(account, instrument, asked, offer, why)


def record_invalid_order(
    *,
    account_id: int,
    coin_id: str,
    side: int,
    fields: Mapping[str, Any],
    request: str = "order by hand",
) -> RiskDecision | None:
    """A row that says why a request was none at all; None for an unknown instrument."""
    instrument = Instrument.objects.filter(coin_id=coin_id).first()
    if instrument is None:
        return None
    with locked_account(account_id) as account:
        return refuse(
            profile=account.profile,
            instrument=instrument,
            direction=side,
            reason="invalid_request",
            at=clock.now(),
            context={"request": request, "fields": fields},
        )


def cancel_working_order(*, order_id: int, reason: str = "cancelled by hand") -> Order:
    """Cancel one working order; what it filled stays filled. One that has ended stays as it is.

    Works in every trading state. A stop or target that is cancelled protects no more. Raises
    Order.DoesNotExist.
    """
    account_id = Order.objects.values_list("account_id", flat=True).get(pk=order_id)
    with locked_account(account_id) as account:
        order = Order.objects.select_related("instrument").get(pk=order_id)
        if order.status != OrderStatus.WORKING:
            return order
        placing.cancel_order(order=order, reason=reason, at=clock.now())
        if order.leg in PROTECTIVE_LEGS:
            column = "stop_loss" if order.leg == OrderLeg.STOP_LOSS else "take_profit"
            Position.objects.filter(account=account, instrument=order.instrument).update(
                **{column: None}
            )
    return order


def flatten(
    *, account_id: int, offers: Mapping[str, Offer] | None = None, by: str = ""
) -> Flattening:
    """Cancel every order that could open or add, and close every position at its quote.

    Works in every trading state, and changes none: a later signal opens again unless the trading
    state forbids it. What has no fresh quote stays held with its stop and target, and is named.
    Raises Account.DoesNotExist.
    """
    offers = offers if offers is not None else read_offers(account_id=account_id)
    fills: list[Fill] = []
    left: dict[str, str] = {}
    with locked_account(account_id) as account:
        PendingSignal.objects.filter(account=account).delete()
        entries = Order.objects.filter(
            account=account, status=OrderStatus.WORKING, leg=OrderLeg.OPEN
        )
        cancelled = entries.update(
            status=OrderStatus.CANCELLED,
            reason=f"flattened by {by}" if by else "flattened",
            ended_at=clock.now(),
        )
        for position in open_positions(account_id=account_id):
            coin_id = position.instrument.coin_id
            offer = offers.get(coin_id)
            if offer is None:
                left[coin_id] = "opened at this moment"
                continue
            try:
                with transaction.atomic():
                    fill = close_position(account_id=account_id, coin_id=coin_id, offer=offer)
            except NoQuoteError as error:
                left[coin_id] = str(error)
            else:
                if fill is not None:
                    fills.append(fill)
    still = Position.objects.filter(account_id=account_id).exclude(quantity_steps=0)
    for coin_id in still.values_list("instrument__coin_id", flat=True):
        left.setdefault(coin_id, "its order works on: the market did not take all of it yet")
    return Flattening(fills=tuple(fills), cancelled=cancelled, left=left)


def read_offers(*, account_id: int) -> dict[str, Offer]:
    """The offers of all that the account holds, by coin id. Reads Redis."""
    account = Account.objects.get(pk=account_id)
    return {
        row.instrument.coin_id: current_offer(
            account=account, instrument=row.instrument, since=None
        )
        for row in open_positions(account_id=account_id)
    }


def _place(account: Account, instrument: Instrument, asked: HandOrder, offer: Offer) -> HandOutcome:
    position = Position.objects.filter(account=account, instrument=instrument).first()
    keys = [f"hand:{asked.key}:{place}" if asked.key else "" for place in range(len(asked.terms))]
    if asked.key and Order.objects.filter(account=account, key__in=keys).exists():
        raise Refused("already_placed", "this order is placed already")
    working = Order.objects.filter(account=account, status=OrderStatus.WORKING)
    if working.count() + len(asked.terms) > MOST_WORKING:
        raise Refused("too_many_orders", f"an account has at most {MOST_WORKING} working orders")
    drafts = draft_tickets(account=account, position=position, asked=asked, offer=offer)
    is_entry = drafts[0].ticket.leg == OrderLeg.OPEN
    if is_entry and not account.is_active:
        raise Refused("account_inactive", "the account is switched off: it only closes")
    if is_entry and candles_are_stale(instrument=instrument, at=offer.now):
        raise Refused(STALE_CANDLES, "there are no candles of its last hours to judge it by")
    tickets = [
        _granted(account, instrument, asked, draft, offer) if is_entry else draft.ticket
        for draft in drafts
    ]
    oco = f"hand:{uuid4().hex}" if len(drafts) > 1 else ""
    orders = tuple(
        _write(account, instrument, draft.venue, replace(ticket, oco=oco, key=key), offer)
        for draft, ticket, key in zip(drafts, tickets, keys, strict=True)
    )
    placing.announce_orders()
    return HandOutcome(orders=orders, decision=tickets[0].decision)


def _granted(
    account: Account, instrument: Instrument, asked: HandOrder, draft: Drafted, offer: Offer
) -> Ticket:
    """The ticket as risk lets it through, with its stop and target. Raises Refused."""
    decision, verdict = _assess(account, instrument, asked, draft, offer)
    if not verdict.is_approved:
        raise Refused(verdict.reason, f"risk refuses it: {verdict.reason}", draft=draft)
    if verdict.steps < draft.ticket.steps:
        granted = draft.venue.grid.quantity_text(verdict.steps)
        raise Refused(LARGER, f"risk grants {granted} at most", facts={"granted_quantity": granted})
    announce_decision(decision)
    return replace(
        draft.ticket,
        decision=decision,
        stop_loss=decision.stop_loss,
        take_profit=decision.take_profit,
    )


def _assess(
    account: Account, instrument: Instrument, asked: HandOrder, draft: Drafted, offer: Offer
) -> tuple[RiskDecision, Verdict]:
    grid = draft.venue.grid
    ticks = draft.expected_ticks
    one = grid.step_notional(ticks)
    equity = account_portfolio(account=account, bar=None).equity
    # Half a step more, so that the floor to whole steps finds the very steps that were asked for.
    wanted = (draft.ticket.steps + 0.5) * one
    share = wanted / equity if equity > 0.0 else 0.0
    return assess(
        profile=account.profile,
        portfolio=partial(account_portfolio, account=account, bar=None, strategy=MANUAL),
        instrument=instrument,
        request=Request(
            direction=draft.ticket.side,
            confidence=1.0,
            price=grid.price(ticks),
            stop_loss=or_nan(draft.stop_loss),
            take_profit=or_nan(draft.take_profit),
            proposed_size=min(share, 1.0),
            step_notional=one,
            min_notional=draft.venue.min_notional,
        ),
        at=offer.now,
        strategy=MANUAL,
        context=_context(asked, offer),
    )


def _write(
    account: Account, instrument: Instrument, venue: Venue, ticket: Ticket, offer: Offer
) -> Order:
    """The order's row and, for a market order, what it gets at once: for the rest it works."""
    order = placing.place_order(
        account=account, instrument=instrument, venue=venue, ticket=ticket, at=offer.now
    )
    if ticket.kind == OrderKind.MARKET:
        position = position_for(account=account, instrument=instrument, venue=venue)
        bar = last_closed(offer.now, account.timeframe)
        meet_offer(account, position, order, offer, bar=bar)
    return order


def _refusal(
    account: Account, instrument: Instrument, asked: HandOrder, offer: Offer, refused: Refused
) -> HandOutcome:
    """The only row of a refused order: risk's own decision where risk refused it."""
    if refused.draft is not None:
        decision, _ = _assess(account, instrument, asked, refused.draft, offer)
    else:
        decision = refuse(
            profile=account.profile,
            instrument=instrument,
            direction=asked.side,
            reason="invalid_request" if refused.fields else refused.code,
            at=offer.now,
            context={**_context(asked, offer), "fields": refused.fields, **refused.facts},
        )
    announce_decision(decision)
    return HandOutcome(decision=decision, refusal=refused)


def _context(asked: HandOrder, offer: Offer) -> dict[str, Any]:
    """What a decision records beside its scalars."""
    said = json.loads(json.dumps(asdict(asked), default=str))
    return {"request": "order by hand", "order": said, "quote": offer.recorded()}
