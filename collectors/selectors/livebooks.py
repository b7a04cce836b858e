"""What Redis holds of the newest books beyond their tops."""

from __future__ import annotations

import msgspec
import structlog

from collectors.marketdata import Quote
from collectors.quality import check_quote
from collectors.selectors.live import quote_key, read_live

log = structlog.get_logger(__name__)

BPS = 10_000.0


class LiveBook(Quote, frozen=True, kw_only=True):
    """The newest top of a book and what is known of the book as a whole: nothing unless it is
    synchronised. Depths are (bid, ask) in quote units by basis points of the mid price."""

    is_synced: bool = False
    imbalance: float | None = None
    depth_bps: dict[str, tuple[float, float] | None] = msgspec.field(default_factory=dict)

    @property
    def mid_price(self) -> float:
        """Between the best bid and the best ask."""
        return (self.best_bid + self.best_ask) / 2

    @property
    def spread(self) -> float:
        """What lies between bid and ask, in basis points of the mid price."""
        return (self.best_ask - self.best_bid) / self.mid_price * BPS

    def depth_within(self, bps: int) -> tuple[float | None, float | None]:
        """Bid and ask notional within so many basis points; None where the book is withheld or
        not known that far."""
        return (self.is_synced and self.depth_bps.get(str(bps))) or (None, None)


_books = msgspec.json.Decoder(LiveBook)


def live_book(*, exchange: str, symbol: str) -> LiveBook | None:
    """The newest state of a book that the stream has written; None as for `latest_quote`."""
    raw = read_live(quote_key(exchange, symbol))
    if raw is None:
        return None
    try:
        book = _books.decode(raw)
        problem = check_quote(book)
    except (ValueError, RecursionError) as error:
        problem = str(error)
    if problem is not None:
        log.warning("book_unusable", exchange=exchange, symbol=symbol, problem=problem)
        return None
    return book
