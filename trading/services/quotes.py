"""What an order could trade against now: the listing's venue and the newest prices met there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog
from django.db import Error as DatabaseFailure

from collectors import clock
from collectors.livebook import LiveBook
from collectors.marketdata import Quote, to_ms
from collectors.models import Instrument
from collectors.selectors import latest_tops
from risk.assessment import ABSURD_PRICE
from risk.selectors import surroundings_at
from trading.backtest import NO_QUOTE
from trading.encounters import BarMet, BookMet, QuoteMet, recorded_quote
from trading.models import Account
from trading.orders import SLIPPAGE_BPS
from trading.services.venues import Venue, venue_of
from trading.simulator import is_reachable, market_fill_ticks

log = structlog.get_logger(__name__)

# How old a quote may be in market time before an order refuses to meet it.
FRESH = timedelta(seconds=10)
# How far ahead of this machine's clock a venue's may run. An order meets nothing from before what
# it met last: a quote of tomorrow would leave a stop without a market until then.
AHEAD = timedelta(minutes=1)
# Why an order finds no quote; of one that is plausible and fresh: it is from before its signal.
STALE_QUOTE = "stale_quote"
UNUSABLE = "unusable_quote"
# Why nothing opens where there are quotes, and no candles of the last hours.
STALE_CANDLES = "stale_candles"
Met = TypeVar("Met", QuoteMet, BookMet, BarMet, QuoteMet | BookMet)

# How long after a quote a book still shows the depth that was there, wall time.
AFTER = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A venue and, when one is usable, its quote and book; read before the transaction that uses
    them. `is_reachable` is false for a quote from before an order of now could be at the venue;
    `problem` says why there is no quote."""

    venue: Venue | None
    quote: Quote | None
    now: datetime
    book: LiveBook | None = None
    is_reachable: bool = True
    volatility: float = math.nan
    day_volume: float = math.nan
    problem: str = ""

    def ticks(self, side: int, venue: Venue) -> int:
        """What a small market order of `side` pays on the grid of `venue`. Needs a quote."""
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

    def met(self) -> QuoteMet | BookMet:
        """What an order meets now: the book where one is known, else the quote. Needs a quote."""
        if self.quote is None:
            raise ValueError("no quote to fill at")
        met = met_now(self.quote, self.book)
        if isinstance(met, BookMet):
            return met
        return replace(met, volatility=self.volatility, day_volume=self.day_volume)

    def recorded(self) -> dict[str, Any]:
        """The quote as a decision stores it; empty without one."""
        if self.quote is None:
            return {}
        return {**recorded_quote(self.quote), "slippage_bps": SLIPPAGE_BPS}


def met_now(quote: Quote, book: LiveBook | None) -> QuoteMet | BookMet:
    """What orders meet: the book where one is known, else the quote."""
    if book is not None and book.bids and book.asks:
        return BookMet(quote=quote, bids=book.bids, asks=book.asks)
    return QuoteMet(quote=quote)


def met_at_quote(seen: Quote, quote: Quote | None, book: LiveBook | None) -> QuoteMet | BookMet:
    """What orders meet that are reached by a quote which somebody has just seen: that quote, with
    the depth of the newest book where this is from just after it."""
    if quote is None or book is None or not (book.bids and book.asks):
        return QuoteMet(quote=seen)
    late = quote.event_time - seen.event_time
    if not timedelta(0) <= late <= AFTER * clock.current().speed:
        return QuoteMet(quote=seen)
    return BookMet(quote=quote, bids=book.bids, asks=book.asks, seen=seen)


def with_facts(met: Met, *, instrument: Instrument, at: datetime) -> Met:
    """A quote or a bar with what is known of the market behind it, which its slippage goes by; a
    book as it is."""
    if isinstance(met, BookMet):
        return met
    volatility, day_volume = _facts(instrument, at)
    return replace(met, volatility=volatility, day_volume=day_volume)


def current_offer(*, account: Account, instrument: Instrument, since: datetime | None) -> Offer:
    """The venue at the account's exchange and its quote, if that is fresh and not before `since`.

    An order of `since` (None: of now, by this machine's clock) reaches the venue after the
    account's latency. A venue whose grid cannot be counted is no venue. Reads Redis, so never in a
    transaction.
    """
    now = clock.now()
    venue = venue_of(instrument=instrument, exchange=account.exchange, at=now)
    if venue is None:
        return Offer(venue=None, quote=None, now=now)
    [(quote, book)] = latest_tops([(venue.exchange, venue.symbol)])
    if quote is None or not is_usable(quote, since=since, now=now):
        problem = NO_QUOTE if quote is None else STALE_QUOTE if is_old(quote, now) else UNUSABLE
        return Offer(venue=venue, quote=None, now=now, problem=problem)
    sent = now - clock.current().widen(timedelta(0)) if since is None else since
    # Of a book nothing more has to be known.
    volatility, day_volume = (math.nan, math.nan) if book else _facts(instrument, now)
    return Offer(
        venue=venue,
        quote=quote,
        now=now,
        book=book,
        volatility=volatility,
        day_volume=day_volume,
        is_reachable=is_reachable(to_ms(sent), account.latency_ms, to_ms(quote.event_time)),
    )


def is_plausible(quote: Quote, now: datetime) -> bool:
    """True for prices at which something could trade, neither crossed nor absurd, and that are not
    of a time to come."""
    is_ahead = quote.event_time - now > clock.current().widen(AHEAD)
    return 0.0 < quote.best_bid <= quote.best_ask < ABSURD_PRICE and not is_ahead


def is_usable(quote: Quote, *, since: datetime | None, now: datetime) -> bool:
    """True for an uncrossed, plausible, fresh quote of a moment not before `since`.

    An event time a little ahead of this machine's clock is no fault: the venue's clock may run
    before it.
    """
    return (
        is_plausible(quote, now)
        and not is_old(quote, now)
        and (since is None or quote.event_time >= since)
    )


def is_old(quote: Quote, now: datetime) -> bool:
    """Whether the quote says nothing of the present any more."""
    return now - quote.event_time > clock.current().widen(FRESH)


def _facts(instrument: Instrument, at: datetime) -> tuple[float, float]:
    """The volatility of 24 hours (a fraction) and the quote units traded in them; NaN: unknown.

    They only say how much slippage there is: history that cannot be read keeps no order, and no
    stop, from its market.
    """
    try:
        facts = surroundings_at(coin_ids=[instrument.coin_id], at=at).of(instrument.coin_id)
    except DatabaseFailure:
        raise
    except Exception:
        log.exception("facts_not_read", instrument=instrument.coin_id)
        return math.nan, math.nan
    return facts.volatility_24h, facts.quote_volume_24h
