"""What Bybit's `tickers` topics push: the last 24 hours, and on linear mark price and funding.

Linear sends a snapshot, then deltas that omit what has not changed, which is most
(https://bybit-exchange.github.io/docs/v5/websocket/public/ticker). Spot sends snapshots only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from collectors.exchange import MalformedPayload
from collectors.exchanges.bybit.messages import Message
from collectors.exchanges.bybit.payloads import TickerRow
from collectors.feeds import MarkPrice, Topic, Update
from collectors.marketdata import from_ms
from collectors.readers import TopicReader
from collectors.venues import Moment, Price, Rate, price_or_none, settled_at


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields of a linear ticker that matter here; None is "as before"."""

    symbol: str
    lastPrice: str | None = None
    prevPrice24h: str | None = None
    highPrice24h: str | None = None
    lowPrice24h: str | None = None
    volume24h: str | None = None
    turnover24h: str | None = None
    markPrice: str | None = None
    indexPrice: str | None = None
    fundingRate: str | None = None
    nextFundingTime: str | None = None


DAY_FIELDS = (
    "lastPrice",
    "prevPrice24h",
    "highPrice24h",
    "lowPrice24h",
    "volume24h",
    "turnover24h",
)
MARK_FIELDS = ("markPrice", "indexPrice", "fundingRate", "nextFundingTime")


class TickerMessage(msgspec.Struct, frozen=True):
    """A message of a linear ticker."""

    topic: str
    type: Literal["snapshot", "delta"]
    ts: Moment
    data: Change


_changes = msgspec.json.Decoder(TickerMessage, strict=False)
_rows = msgspec.json.Decoder(Message[TickerRow], strict=False)


class TickerReader(TopicReader):
    """A linear ticker. What a delta omits is merged in from the messages before it; deltas that
    come before a snapshot are of no use and left alone."""

    __slots__ = ("_said",)

    def __init__(self, topic: Topic) -> None:
        super().__init__(topic)
        self._said: Mapping[str, str] = {}  # nothing before the first snapshot

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        message = _changes.decode(raw)
        self.check(message.topic, message.data.symbol)
        before = {} if message.type == "snapshot" else self._said
        if message.type == "delta" and not before:
            return ()
        said = self._merged(before, message.data)
        if said is before:
            return ()
        updates: list[Update] = []
        if any(said[name] != before.get(name) for name in MARK_FIELDS):
            mark = self._mark(said, message.ts, received_at)
            updates += [] if mark is None else [mark]
        if any(said[name] != before.get(name) for name in DAY_FIELDS):
            day = {name: said[name] for name in DAY_FIELDS}
            updates.append(TickerRow(symbol=self.symbol, **day).ticker(self.exchange))
        self._said = said  # only now: a message that cannot be true changes nothing
        return updates

    def _merged(self, before: Mapping[str, str], change: Change) -> Mapping[str, str]:
        """What holds after the change, `before` itself when nothing that matters has changed.
        Raises MalformedPayload for a snapshot that is not whole."""
        said = dict(before)
        for name in (*DAY_FIELDS, *MARK_FIELDS):
            text = getattr(change, name)
            if text is not None:
                said[name] = text
            elif name not in said:
                if name in DAY_FIELDS:
                    raise MalformedPayload(f"{self.exchange} {self.name}: no {name}")
                said[name] = ""  # a contract without funding may leave these out
        return before if said == before else said

    def _mark(self, said: Mapping[str, str], at_ms: int, received_at: datetime) -> MarkPrice | None:
        """Mark price and funding; None of a contract without funding. Raises ValueError for what
        is no number or outside its bounds."""
        index_price = price_or_none(said["indexPrice"])
        if not said["fundingRate"] or said["nextFundingTime"] in ("", "0"):
            return None
        next_ms = msgspec.convert(said["nextFundingTime"], type=Moment, strict=False)
        return MarkPrice(
            exchange=self.exchange,
            symbol=self.symbol,
            mark_price=msgspec.convert(said["markPrice"], type=Price, strict=False),
            index_price=index_price,
            funding_rate=msgspec.convert(said["fundingRate"], type=Rate, strict=False),
            next_funding_time=settled_at(next_ms),
            event_time=from_ms(at_ms),
            received_at=received_at,
        )


class SpotTickerReader(TopicReader):
    """A spot ticker, whole in every message."""

    __slots__ = ()

    def read(self, raw: bytes, received_at: datetime) -> Sequence[Update]:
        message = _rows.decode(raw)
        self.check(message.topic, message.data.symbol)
        return (message.data.ticker(self.exchange),)
