"""Where an order trades: the symbol and the grid that the order copies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from collectors.models import Instrument
from collectors.selectors import listing_for
from trading.models import Order, Position
from trading.orders import Grid, GridError

# Why nothing opens at a listing that its exchange says does not trade.
NOT_TRADING = "not_trading"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Venue:
    """A symbol of an exchange, its tick and step, and the least notional of an opening order."""

    exchange: str
    symbol: str
    tick_size: str
    quantity_step: str
    min_notional: float
    is_trading: bool = True

    def on_grid_of(self, position: Position) -> Venue:
        """The same venue with the grid that the position was opened on."""
        return replace(self, tick_size=position.tick_size, quantity_step=position.quantity_step)

    @property
    def grid(self) -> Grid:
        """The grid as integers. Raises GridError."""
        return Grid.of(self.tick_size, self.quantity_step)


def venue_of(*, instrument: Instrument, exchange: str, at: datetime) -> Venue | None:
    """The instrument's listing at an exchange as a venue; None without one, and for one whose grid
    cannot be counted."""
    listing = listing_for(instrument=instrument, exchange=exchange, at=at)
    if listing is None:
        return None
    try:
        venue = Venue(
            exchange=listing.exchange,
            symbol=listing.symbol,
            tick_size=listing.tick_size,
            quantity_step=listing.quantity_step,
            min_notional=float(listing.min_notional),
            is_trading=listing.is_trading,
        )
        _ = venue.grid
    except (GridError, ValueError) as error:
        log.error("unusable_listing", listing=str(listing), error=str(error))
        return None
    return venue


def holding_venue(*, position: Position, exchange: str, at: datetime) -> Venue:
    """The venue at which a position can be left, on its own grid; its symbol may have ended."""
    venue = venue_of(instrument=position.instrument, exchange=exchange, at=at)
    if venue is None:
        venue = Venue(
            exchange=exchange,
            symbol=position.instrument.symbol,
            tick_size=position.tick_size,
            quantity_step=position.quantity_step,
            min_notional=0.0,
        )
    return venue.on_grid_of(position)


def venue_of_order(order: Order) -> Venue:
    """The venue and the grid that an order was placed with."""
    return Venue(
        exchange=order.exchange,
        symbol=order.symbol,
        tick_size=order.tick_size,
        quantity_step=order.quantity_step,
        min_notional=0.0,
    )
