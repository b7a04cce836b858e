"""Closing by force: an account whose equity no longer carries what it holds loses all of it.

As venues do it in cross margin: the account counts as a whole, and everything is closed at what the
market gives. The fee of a liquidation is the taker's; venues take more, into a fund of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import structlog
from django.db import transaction

from collectors import clock
from collectors.marketdata import last_closed
from trading.accounting import is_liquidated, maintenance_margin
from trading.fields import to_units
from trading.holdings import marked_equity
from trading.models import (
    ENTRY_LEGS,
    Account,
    Fill,
    Order,
    OrderLeg,
    OrderStatus,
    PendingSignal,
    Position,
)
from trading.orders import MAINTENANCE_PPM, OrderError
from trading.selectors import holding_of, marks_at, open_positions
from trading.services.accounts import locked_account
from trading.services.closing import meet_offer
from trading.services.placing import Ticket, place_order
from trading.services.quotes import Offer, current_offer
from trading.services.venues import holding_venue
from trading.ticks import level_ticks

log = structlog.get_logger(__name__)
LIQUIDATED = "liquidated"


def liquidate_if_due(*, account_id: int, marks: Mapping[str, int] | None = None) -> list[Fill]:
    """Close everything when the equity is no more than what the positions must keep; the fills.

    `marks` are ticks by coin id of whoever has just marked the account; without them, and before
    anything is closed, it is marked at the middle of usable quotes, else at the newest closes.
    Entries are cancelled, and what the market does not take yet goes on working. One short query
    where nothing is held. Reads Redis, so never in a transaction. Raises Account.DoesNotExist.
    """
    held = open_positions(account_id=account_id)
    if not held:
        return []
    account = Account.objects.get(pk=account_id)
    if marks is not None and not _is_due(account, held, marks):
        return []
    offers = {
        row.instrument_id: current_offer(account=account, instrument=row.instrument, since=None)
        for row in held
    }
    with locked_account(account_id) as current:
        # As it is now: somebody may have closed something, or may have been here.
        held = open_positions(account_id=account_id)
        if not _is_due(current, held, _marks(current, held, offers)):
            return []
        return _liquidate(current, held, offers)


def _is_due(account: Account, held: Iterable[Position], marks: Mapping[str, int]) -> bool:
    holdings = [holding_of(position=row) for row in held]
    if not all(holding.coin_id in marks for holding in holdings):
        return True  # nobody can say without them: look again
    equity = marked_equity(cash=to_units(account.cash), holdings=holdings, marks=marks)
    rate = MAINTENANCE_PPM[account.exchange]
    keep = sum(
        maintenance_margin(holding.exposure(marks[holding.coin_id]), rate) for holding in holdings
    )
    return is_liquidated(equity, keep)


def _marks(
    account: Account, held: Iterable[Position], offers: Mapping[int, Offer]
) -> dict[str, int]:
    rows = {row.instrument_id: holding_of(position=row) for row in held}
    marks = marks_at(holdings=rows.values(), timeframe=account.timeframe, bar=None)
    for instrument_id, holding in rows.items():
        offer = offers.get(instrument_id)
        if offer is not None and offer.quote is not None:
            middle = (offer.quote.best_bid + offer.quote.best_ask) / 2.0
            grid = holding.grid
            marks[holding.coin_id] = level_ticks(middle, grid.tick_num, grid.tick_den)
    return marks


def _liquidate(
    account: Account, held: Iterable[Position], offers: Mapping[int, Offer]
) -> list[Fill]:
    now = clock.now()
    log.error("account_liquidated", account=account.pk)
    PendingSignal.objects.filter(account=account).delete()
    Order.objects.filter(account=account, status=OrderStatus.WORKING, leg__in=ENTRY_LEGS).update(
        status=OrderStatus.CANCELLED, reason=LIQUIDATED, ended_at=now
    )
    fills = []
    for position in held:
        fill = _close(account, position, offers.get(position.instrument_id), now)
        if fill is not None:
            fills.append(fill)
    return fills


def _close(account: Account, position: Position, offer: Offer | None, now: datetime) -> Fill | None:
    """Close one position as far as the market takes it; once begun, its order works on."""
    working = Order.objects.filter(
        account=account,
        instrument=position.instrument,
        leg=OrderLeg.LIQUIDATION,
        status=OrderStatus.WORKING,
    ).select_related("instrument", "signal", "decision")
    order = working.first() or place_order(
        account=account,
        instrument=position.instrument,
        venue=holding_venue(position=position, exchange=account.exchange, at=now),
        ticket=Ticket(
            leg=OrderLeg.LIQUIDATION,
            side=-position.direction,
            steps=abs(position.quantity_steps),
            reason=LIQUIDATED,
        ),
        at=now,
    )
    if offer is None or offer.quote is None:
        return None
    try:
        bar = last_closed(now, account.timeframe)
        with transaction.atomic():
            return meet_offer(account, position, order, offer, bar=bar)
    except OrderError as error:
        log.error("liquidation_impossible", order=order.pk, error=str(error))
        return None
