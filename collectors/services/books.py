"""How the newest quotes become rows: a sample of every book that the stream follows."""

from __future__ import annotations

from collectors import clock, selectors
from collectors.marketdata import Quote
from collectors.models import BookSample
from collectors.services.streaming import stream_subscriptions

BPS = 10_000.0


def sample_books() -> int:
    """Store the newest quote of every symbol that is streamed; gives how many were new.

    A quote is named by the exchange's own time: one that has not changed since the last look is
    stored once, and a book that is silent gets no row.
    """
    found = [
        BookSample(
            instrument=item.instrument,
            exchange=item.exchange,
            symbol=item.symbol,
            at=quote.event_time,
            best_bid=quote.best_bid,
            bid_quantity=quote.bid_quantity,
            best_ask=quote.best_ask,
            ask_quantity=quote.ask_quantity,
            spread_bps=spread_bps(quote),
            received_at=quote.received_at,
        )
        for item in stream_subscriptions(at=clock.now())
        if (quote := selectors.latest_quote(exchange=item.exchange, symbol=item.symbol))
    ]
    if not found:
        return 0
    around = BookSample.objects.filter(at__gte=min(sample.at for sample in found))
    before = around.count()
    BookSample.objects.bulk_create(found, ignore_conflicts=True)
    return around.count() - before


def spread_bps(quote: Quote) -> float:
    """What lies between bid and ask, in basis points of the mid price."""
    mid_price = (quote.best_bid + quote.best_ask) / 2
    return (quote.best_ask - quote.best_bid) / mid_price * BPS
