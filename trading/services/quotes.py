"""What an order could trade against now: the listing's venue and the newest quote met there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from collectors import clock
from collectors.marketdata import Quote, to_ms
from collectors.models import Instrument
from collectors.selectors import latest_quote
from risk.assessment import ABSURD_PRICE
from trading.models import Account
from trading.orders import SLIPPAGE_BPS
from trading.services.booking import Hit
from trading.services.venues import Venue, venue_of
from trading.simulator import market_fill_ticks
from trading.ticks import nearest_ticks

# How old a quote may be in market time before an order refuses to meet it.
FRESH = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A venue and, when one is usable, its quote; read before the transaction that uses it."""

    venue: Venue | None
    quote: Quote | None
    now: datetime

    def ticks(self, side: int, venue: Venue) -> int:
        """What a market order of `side` pays on the grid of `venue`. Needs a quote."""
        if self.quote is None:
            raise ValueError("no quote to fill at")
        grid = venue.grid
        return market_fill_ticks(
            side,
            self.quote.best_bid,
            self.quote.best_ask,
            SLIPPAGE_BPS,
            grid.tick_num,
            grid.tick_den,
        )

    def hit(self, *, side: int, steps: int, venue: Venue, bar: datetime) -> Hit:
        """What a market order of `steps` gets now; `bar` is that of its signal. Needs a quote."""
        if self.quote is None:
            raise ValueError("no quote to fill at")
        touch = self.quote.best_ask if side > 0 else self.quote.best_bid
        grid = venue.grid
        return Hit(
            steps=steps,
            ticks=self.ticks(side, venue),
            reference_ticks=nearest_ticks(touch, grid.tick_num, grid.tick_den),
            slippage_bps=SLIPPAGE_BPS,
            trigger=f"quote:{to_ms(self.quote.event_time)}:{self.quote.sequence}",
            at=self.now,
            bar=bar,
            quote=self.recorded(),
        )

    def recorded(self) -> dict[str, Any]:
        """The quote as a fill or a decision stores it; empty without one."""
        if self.quote is None:
            return {}
        quote = self.quote
        return {
            "exchange": quote.exchange,
            "symbol": quote.symbol,
            "best_bid": quote.best_bid,
            "bid_quantity": quote.bid_quantity,
            "best_ask": quote.best_ask,
            "ask_quantity": quote.ask_quantity,
            "event_time": quote.event_time.isoformat(),
            "received_at": quote.received_at.isoformat(),
            "sequence": quote.sequence,
            "slippage_bps": SLIPPAGE_BPS,
        }


def current_offer(*, account: Account, instrument: Instrument, since: datetime | None) -> Offer:
    """The venue at the account's exchange and its quote, if that is fresh and not before `since`.

    A venue whose grid cannot be counted is no venue. Reads Redis, so never in a transaction.
    """
    now = clock.now()
    venue = venue_of(instrument=instrument, exchange=account.exchange, at=now)
    if venue is None:
        return Offer(venue=None, quote=None, now=now)
    quote = latest_quote(exchange=venue.exchange, symbol=venue.symbol)
    if quote is not None and not is_usable(quote, since=since, now=now):
        quote = None
    return Offer(venue=venue, quote=quote, now=now)


def is_usable(quote: Quote, *, since: datetime | None, now: datetime) -> bool:
    """True for an uncrossed, plausible, fresh quote of a moment not before `since`.

    An event time ahead of this machine's clock is no fault: the venue's clock may run before it.
    """
    sane = 0.0 < quote.best_bid <= quote.best_ask < ABSURD_PRICE
    recent = now - quote.event_time <= clock.current().widen(FRESH)
    return sane and recent and (since is None or quote.event_time >= since)
