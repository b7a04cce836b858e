"""Fills booked by hand, for tests of what follows from them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from collectors.models import Instrument
from trading.models import Account, Fill, OrderLeg
from trading.services.accounts import locked_account
from trading.services.booking import Hit, book_fill, position_for
from trading.services.placing import Ticket, place_order
from trading.services.venues import venue_of


def book(
    account: Account, instrument: Instrument, steps: int, ticks: int, at: datetime, **ticket: Any
) -> Fill:
    """A market order of signed steps, filled at once; what grows the position is an entry.
    `ticket` goes to the order."""
    venue = venue_of(instrument=instrument, exchange=account.exchange, at=at)
    assert venue is not None
    with locked_account(account.pk) as current:
        position = position_for(account=current, instrument=instrument, venue=venue)
        shrinks = position.quantity_steps * steps < 0
        order = place_order(
            account=current,
            instrument=instrument,
            venue=venue,
            ticket=Ticket(
                leg=OrderLeg.CLOSE if shrinks else OrderLeg.OPEN,
                side=1 if steps > 0 else -1,
                steps=abs(steps),
                **ticket,
            ),
            at=at,
        )
        hit = Hit(
            steps=abs(steps),
            ticks=ticks,
            reference_ticks=ticks,
            slippage_bps=0.0,
            trigger="by hand",
            at=at,
            bar=at.replace(minute=0, second=0, microsecond=0),
            quote={},
        )
        return book_fill(account=current, position=position, order=order, hit=hit)
