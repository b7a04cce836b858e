"""What Redis holds: the newest quotes and books."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from collectors import clock
from collectors.livebook import UNREACHABLE, UNREADABLE, LiveBook, judge
from collectors.marketdata import Quote
from collectors.quality import check_quote

log = structlog.get_logger(__name__)

REDIS_TIMEOUT_S = 1.0
# How long quotes read as absent after Redis was not reached, without another try: whoever reads
# those of all instruments, one after the other, must not wait for each.
QUOTES_ABSENT_S = 5.0

_quotes = msgspec.json.Decoder(Quote)


@functools.cache
def redis_client() -> redis.Redis:
    """This process's client of the shared Redis; safe to use from several threads.

    It waits for a second, and tries once more, because a kept connection may have died.
    """
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),
    )


def quote_key(exchange: str, symbol: str) -> str:
    """The Redis key of a top of book."""
    return f"orderbook:{exchange}:{symbol}"


def latest_quote(*, exchange: str, symbol: str) -> Quote | None:
    """The newest top of book that the stream has written.

    None without one, and for one that does not decode, that nobody can trade at, or that Redis
    cannot be asked for: it raises nothing and never takes more than about two seconds.
    """
    return _read_quote(_quote_store.read(quote_key(exchange, symbol)), exchange, symbol)


def latest_tops(symbols: Sequence[tuple[str, str]]) -> list[tuple[Quote | None, LiveBook | None]]:
    """The newest quote of each (exchange, symbol), as `latest_quote` has it, and the book behind
    it where that is synchronised and fresh; in their order, from one look at Redis."""
    values = _quote_store.read_many([quote_key(*names) for names in symbols]) if symbols else []
    if values is None:
        return [(None, None)] * len(symbols)
    now = clock.wall_now()
    tops: list[tuple[Quote | None, LiveBook | None]] = []
    for (exchange, symbol), raw in zip(symbols, values, strict=True):
        quote = _read_quote(raw, exchange, symbol)
        book = judge(raw, exchange=exchange, symbol=symbol, now=now) if quote else None
        tops.append((quote, book if book is not None and book.is_synced else None))
    return tops


def latest_quotes(symbols: Sequence[tuple[str, str]]) -> list[Quote | None]:
    """The newest quote of each (exchange, symbol), as `latest_quote` has it; in their order, from
    one look at Redis."""
    values = _quote_store.read_many([quote_key(*names) for names in symbols]) if symbols else []
    if values is None:
        return [None] * len(symbols)
    return [_read_quote(raw, *names) for raw, names in zip(values, symbols, strict=True)]


def _read_quote(raw: bytes | None, exchange: str, symbol: str) -> Quote | None:
    if raw is None:
        return None
    try:
        quote = _quotes.decode(raw)
        problem = check_quote(quote)
    except (ValueError, RecursionError) as error:
        book = judge(raw, exchange=exchange, symbol=symbol, now=clock.wall_now())
        if book.reason != UNREADABLE:
            return None  # followed, but no price has come yet
        problem = str(error)
    if problem is not None:
        log.warning("quote_unusable", exchange=exchange, symbol=symbol, problem=problem)
        return None
    return quote


def live_books(symbols: Sequence[tuple[str, str]]) -> list[LiveBook]:
    """The newest books of (exchange, symbol), in their order, from one look at Redis.

    Every one has its book: where nothing can be told, it says why. Raises nothing, and never
    takes more than about two seconds.
    """
    if not symbols:
        return []
    values = _quote_store.read_many([quote_key(*names) for names in symbols])
    if values is None:
        return [
            LiveBook(exchange=exchange, symbol=symbol, reason=UNREACHABLE)
            for exchange, symbol in symbols
        ]
    now = clock.wall_now()
    return [
        judge(raw, exchange=exchange, symbol=symbol, now=now)
        for (exchange, symbol), raw in zip(symbols, values, strict=True)
    ]


class _QuoteStore:
    """Reads from Redis, and remembers for a while that it could not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._absent_until = 0.0
        self._is_lost = False

    def read(self, key: str) -> bytes | None:
        """The value, or None; an outage is logged when it begins and when it ends."""
        values = self.read_many([key])
        return None if values is None else values[0]

    def read_many(self, keys: Sequence[str]) -> list[bytes | None] | None:
        """The values in the order of the keys; None when Redis cannot be asked."""
        if time.monotonic() < self._absent_until:
            return None
        try:
            values: Any = redis_client().mget(keys)
        except redis.RedisError as error:
            self._turn(is_lost=True, problem=str(error))
            return None
        self._turn(is_lost=False)
        return values  # type: ignore[no-any-return]

    def _turn(self, *, is_lost: bool, problem: str = "") -> None:
        with self._lock:
            changed, self._is_lost = self._is_lost != is_lost, is_lost
            self._absent_until = time.monotonic() + QUOTES_ABSENT_S if is_lost else 0.0
        if changed and is_lost:
            log.error("quotes_not_readable", problem=problem)
        elif changed:
            log.info("quotes_readable_again")


_quote_store = _QuoteStore()
