"""`funding:{exchange}:{symbol}` in Redis: the newest and the coming funding rate for live readers.

The stream process writes it while it runs, else whoever collects the settlements.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import redis
import redis.asyncio
import structlog
from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, close_old_connections

from collectors import clock, selectors
from collectors.exchange import ProviderError
from collectors.feeds import MarkPrice
from collectors.selectors.live import redis_client
from collectors.services.providers import funding_source
from collectors.settlements import SeenSettlement
from collectors.sources import FUNDING_VENUES
from collectors.venues import FundingOutlook

log = structlog.get_logger(__name__)

KEY_TTL_S = 24 * 3600
READ_AGAIN_S = 60.0
# A stream that has said nothing of a symbol for longer (market time) is not relied upon.
SILENT = timedelta(minutes=1)


class Settled(NamedTuple):
    """The newest settlement of a symbol."""

    funding_time: datetime
    rate: float
    interval_hours: float | None


class FundingKey(msgspec.Struct, frozen=True, kw_only=True):
    """The value. What the newest settlement was is null before the first is known; the outlook
    where the exchange does not say. `at` is market time."""

    exchange: str
    symbol: str
    funding_time: datetime | None
    rate: float | None
    predicted_rate: float | None
    next_funding_time: datetime | None
    mark_price: float | None
    interval_hours: float | None
    is_streamed: bool
    at: datetime


_keys = msgspec.json.Decoder(FundingKey)


def funding_key(exchange: str, symbol: str) -> str:
    """The Redis key of a symbol's newest and coming funding rate."""
    return f"funding:{exchange}:{symbol}"


class FundingKeys:
    """Writes the keys from the stream process, in its event loop.

    What settled is `note`d as the stream shows it, and read from the table every minute, where
    the exchange's history may have added or corrected something.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._settled: dict[tuple[str, str], Settled] = {}
        self._read_at = 0.0

    def note(self, settlement: SeenSettlement) -> None:
        """This has just settled."""
        newest = Settled(settlement.funding_time, settlement.rate, settlement.interval_hours)
        self._settled[settlement.exchange, settlement.symbol] = newest

    async def publish(self, marks: Iterable[MarkPrice]) -> None:
        """Write the key of each mark price. To be called with the newest of each symbol every few
        seconds and at a settlement; a write that Redis does not take is logged and forgotten."""
        if time.monotonic() >= self._read_at:
            self._read_at = time.monotonic() + READ_AGAIN_S
            for name, known in (await sync_to_async(_newest_settled)()).items():
                noted = self._settled.get(name)
                if noted is None or noted.funding_time <= known.funding_time:
                    self._settled[name] = known
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for mark in marks:
                    key = funding_key(mark.exchange, mark.symbol)
                    pipe.set(key, msgspec.json.encode(self._value(mark)), ex=KEY_TTL_S)
                await pipe.execute()
        except redis.RedisError as error:
            log.warning("funding_keys_not_written", problem=str(error))

    def _value(self, mark: MarkPrice) -> FundingKey:
        settled = self._settled.get((mark.exchange, mark.symbol))
        return FundingKey(
            exchange=mark.exchange,
            symbol=mark.symbol,
            funding_time=settled.funding_time if settled else None,
            rate=settled.rate if settled else None,
            predicted_rate=mark.funding_rate,
            next_funding_time=mark.next_funding_time,
            mark_price=mark.mark_price,
            interval_hours=settled.interval_hours if settled else None,
            is_streamed=True,
            at=mark.event_time,
        )


def _newest_settled() -> dict[tuple[str, str], Settled]:
    """The newest settlements in the table; none while the database is away."""
    try:
        rates = [
            rate
            for exchange in FUNDING_VENUES
            for rate in selectors.newest_funding(exchange=exchange).values()
        ]
    except (DatabaseError, InterfaceError) as error:
        log.warning("settlements_not_read", problem=str(error))
        close_old_connections()
        return {}
    return {
        (rate.exchange, rate.symbol): Settled(rate.funding_time, rate.rate, rate.interval_hours)
        for rate in rates
    }


# -- Without a stream --------------------------------------------------------------------------


def streamed_symbols(exchange: str, symbols: Sequence[str], *, at: datetime) -> set[str]:
    """The symbols whose keys a running stream writes at `at` (market time)."""
    if not symbols:
        return set()
    try:
        found: Any = redis_client().mget([funding_key(exchange, symbol) for symbol in symbols])
    except redis.RedisError as error:
        log.info("funding_keys_not_read", exchange=exchange, problem=str(error))
        return set()
    oldest = at - clock.current().widen(SILENT)
    return {
        symbol
        for symbol, raw in zip(symbols, found, strict=True)
        if raw is not None and _is_streamed(raw, oldest)
    }


def _is_streamed(raw: bytes, oldest: datetime) -> bool:
    try:
        value = _keys.decode(raw)
    except msgspec.DecodeError:
        return False
    return value.is_streamed and value.at >= oldest


def publish_history(exchange: str, symbols: set[str], *, at: datetime) -> None:
    """Write the keys of symbols that no stream writes, and ask the exchange what the next
    settlement looks like."""
    if not symbols:
        return
    outlooks: Mapping[str, FundingOutlook] = {}
    try:
        outlooks = {item.symbol: item for item in funding_source(exchange).fetch_outlooks()}
    except ProviderError as error:
        log.warning("outlooks_failed", exchange=exchange, problem=str(error))
    newest = selectors.newest_funding(exchange=exchange).values()
    try:
        with redis_client().pipeline(transaction=False) as pipeline:
            for rate in newest:
                if rate.symbol not in symbols:
                    continue
                outlook = outlooks.get(rate.symbol)
                value = FundingKey(
                    exchange=exchange,
                    symbol=rate.symbol,
                    funding_time=rate.funding_time,
                    rate=rate.rate,
                    predicted_rate=outlook.rate if outlook else None,
                    next_funding_time=outlook.next_funding_time if outlook else None,
                    mark_price=outlook.mark_price if outlook else rate.mark_price,
                    interval_hours=rate.interval_hours,
                    is_streamed=False,
                    at=at,
                )
                key = funding_key(exchange, rate.symbol)
                pipeline.set(key, msgspec.json.encode(value), ex=KEY_TTL_S)
            pipeline.execute()
    except redis.RedisError as error:
        log.warning("funding_keys_not_written", exchange=exchange, problem=str(error))
