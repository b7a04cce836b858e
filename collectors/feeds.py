"""What a venue's stream is made of and what it says: topics, requests, readers, updates.

A venue implements `Feed` in its own folder and is named in `collectors.sources`; the connections
themselves are `collectors.stream`'s, which knows no venue.

    MalformedPayload        a message that cannot be read, or cannot be true
        ImpossibleCandle    a closed candle that cannot be true, with its values
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec

from collectors.exchange import MalformedPayload
from collectors.keptbook import KeptBook
from collectors.marketdata import Candle, Quote
from collectors.quality import check_bar, check_quote
from collectors.venues import DayTicker


class Kind(StrEnum):
    """What a topic carries; an operator chooses among them by these words."""

    BOOK = "book"  # the order book, by deltas
    TOP = "top"  # the best bid and ask alone
    CANDLE = "candle"
    MARK = "mark"  # mark price and funding
    TICKER = "ticker"  # the last 24 hours
    TRADE = "trade"


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One subscription at one venue.

    `name` is the venue's own; topics of one `group` share connections. `quiet_s` is the longest
    silence (wall seconds) that the venue's rhythm explains: whatever is quiet for longer has
    stalled. None where a quiet market explains any silence.
    """

    exchange: str
    symbol: str
    kind: Kind
    name: str
    group: str
    quiet_s: float | None


class StreamedCandle(NamedTuple):
    """A candle that a venue has just declared closed."""

    exchange: str
    symbol: str
    timeframe: str
    candle: Candle


class MarkPrice(msgspec.Struct, frozen=True, kw_only=True):
    """Mark price and coming funding of a perpetual, whole: what a delta leaves out is merged in.

    `funding_rate` is what the settlement at `next_funding_time` would charge if it were now, a
    share of the notional. `event_time` is the venue's stamp (market time).
    """

    exchange: str
    symbol: str
    mark_price: float
    index_price: float | None
    funding_rate: float
    next_funding_time: datetime
    event_time: datetime
    received_at: datetime


class PublicTrade(msgspec.Struct, frozen=True, kw_only=True):
    """One trade of the market, or several that one order made at one price. `side` is the
    taker's."""

    exchange: str
    symbol: str
    trade_id: str
    price: float
    quantity: float
    side: str  # buy or sell
    traded_at: datetime


class Refusal(NamedTuple):
    """The venue does not serve a topic; "" where it does not say which."""

    exchange: str
    topic: str
    reason: str


# A KeptBook among the updates of a message asks to be looked at: it has just lost or found its
# place, or wants something. One that merely moved on is not named.
Update = Quote | StreamedCandle | MarkPrice | PublicTrade | DayTicker | Refusal | KeptBook


class ImpossibleCandle(MalformedPayload):
    """A streamed candle whose values cannot be true, and why not."""

    def __init__(self, item: StreamedCandle, reason: str) -> None:
        super().__init__(f"{reason}: {item}")
        self.item = item
        self.reason = reason


class Reader(Protocol):
    """Reads the messages of one connection, and keeps what its topics need between messages: the
    books and the state that deltas are merged into."""

    books: dict[str, KeptBook]  # by symbol

    def follow(self, topics: Sequence[Topic]) -> None:
        """These topics are subscribed to on this connection from now on, and no others: the
        books and states of topics that are new are fresh, those of topics that are gone are
        dropped."""

    def topic_of(self, raw: bytes) -> str:
        """The topic name that the message carries, "" for answers and what names none. Cheap, and
        raises nothing."""

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        """What the message says. Raises MalformedPayload, and nothing else, for a message that
        cannot be read or true: it changed nothing but the counts of the book it was for."""


class Feed(Protocol):
    """The stream side of one venue."""

    @property
    def exchange(self) -> str:
        """The name that source chains use."""

    @property
    def url_setting(self) -> str:
        """The setting with the address that `url` completes."""

    @property
    def most_connections(self) -> int:
        """What one process may open at once, overlapping ones included."""

    @property
    def topics_per_connection(self) -> int:
        """What one connection may subscribe to."""

    @property
    def requests_per_second(self) -> float:
        """How many requests a connection may send."""

    @property
    def ping(self) -> str:
        """The venue's own heartbeat, "" when the protocol's is enough."""

    @property
    def ping_interval_s(self) -> float: ...

    def topics(self, symbol: str, *, timeframes: Sequence[str], kinds: set[Kind]) -> list[Topic]:
        """The topics of a symbol, of the kinds that the venue has among `kinds`; candles in
        `timeframes`."""

    def url(self, ws_url: str, group: str) -> str:
        """The address of a group's connections."""

    def subscribe(self, names: Sequence[str]) -> list[str]:
        """The requests that add topics to a connection, each within the venue's limits."""

    def unsubscribe(self, names: Sequence[str]) -> list[str]:
        """The requests that drop topics."""

    def reader(self) -> Reader:
        """A reader for one new connection."""


def possible_quote(quote: Quote) -> Quote:
    """The quote itself. Raises MalformedPayload when nobody could trade at it."""
    if reason := check_quote(quote):
        raise MalformedPayload(f"{reason}: {quote}")
    return quote


def possible_candle(item: StreamedCandle) -> StreamedCandle:
    """The candle itself. Raises ImpossibleCandle when its values cannot be true."""
    if reason := check_bar(item.candle, timeframe=item.timeframe):
        raise ImpossibleCandle(item, reason)
    return item
