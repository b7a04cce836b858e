"""Which books there are: the symbols of instruments at the exchanges that are streamed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from collectors.models import Instrument, Listing
from collectors.selectors.instruments import listing_for
from collectors.sources import FEEDS


@dataclass(frozen=True)
class BookListing:
    """A symbol at an exchange. `is_followed`: its instrument is collected, from this exchange."""

    coin_id: str
    exchange: str
    symbol: str
    is_followed: bool


def book_listings(*, at: datetime, name: str | None = None) -> list[BookListing]:
    """The symbols that are valid at `at` (market time), by instrument and exchange.

    `name`: only those that an exchange calls so, else those of the instrument with that coin id.
    """
    instruments = Instrument.objects.prefetch_related("listings")
    if name is None:
        return _listings(instruments, at)
    called = instruments.filter(listings__symbol=name).distinct()
    found = [item for item in _listings(called, at) if item.symbol == name]
    return found or _listings(instruments.filter(coin_id=name), at)


def find_listing(*, exchange: str, symbol: str, at: datetime) -> BookListing | None:
    """The symbol at the exchange, None where there is none now."""
    named = book_listings(at=at, name=symbol)
    return next(
        (item for item in named if (item.exchange, item.symbol) == (exchange, symbol)), None
    )


def _listings(instruments: Iterable[Instrument], at: datetime) -> list[BookListing]:
    found = []
    for instrument in instruments:
        allowed = set(instrument.source_chain) & set(settings.CANDLE_SOURCES) & set(FEEDS)
        for exchange in sorted({item.exchange for item in instrument.listings.all()}):
            listing: Listing | None = listing_for(instrument=instrument, exchange=exchange, at=at)
            if listing is not None:
                is_followed = instrument.is_enabled and exchange in allowed
                found.append(BookListing(instrument.coin_id, exchange, listing.symbol, is_followed))
    return found
