"""What is streamed: the symbols of the collected instruments, and the rank of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from collectors import selectors
from collectors.models import Instrument
from collectors.services.candles import source_chain
from collectors.sources import FEEDS


@dataclass(frozen=True)
class Subscription:
    """A symbol of an exchange that is listened to, and its rank in the instrument's chain: 0 is
    the best of the exchanges that list it."""

    instrument: Instrument
    exchange: str
    symbol: str
    rank: int


def stream_subscriptions(*, at: datetime) -> list[Subscription]:
    """The symbols of all collected instruments at the exchanges that list them at `at`."""
    subscriptions: list[Subscription] = []
    for instrument in selectors.enabled_instruments():
        exchanges = [name for name in source_chain(instrument) if name in FEEDS]
        listings = [
            (name, selectors.listing_for(instrument=instrument, exchange=name, at=at))
            for name in exchanges
        ]
        listed = [(name, listing.symbol) for name, listing in listings if listing is not None]
        subscriptions += [
            Subscription(instrument, name, symbol, rank)
            for rank, (name, symbol) in enumerate(listed)
        ]
    return subscriptions
