"""Watching how fresh the prices are at which the accounts could trade.

While too many of them are old, entries of all accounts wait: strategies and risk would judge a
market that nobody sees. A single instrument is no matter of the desk: its own orders find no
usable quote. It ends by itself when the prices are there again, so it latches nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.db import transaction

from collectors import clock
from collectors.models import Instrument
from collectors.selectors import book_listings, live_books
from risk.models import StateCause, TradingState
from risk.selectors import read_desk
from risk.services import record_state
from trading.models import Account
from trading.services.trading_state import lock_desk
from trading.staleness import Standing, next_standing

log = structlog.get_logger(__name__)

# How old the newest price of an instrument may be, in market time. An order is stricter: it
# refuses what is older than ten seconds, which a quiet instrument may well be for a moment.
OLD = timedelta(seconds=30)
NAMED = 5


def watch_staleness(*, wall: datetime | None = None) -> bool:
    """Look at the prices of all that is traded, and let entries wait, or go on; whether they wait.

    `wall` is the wall time of the look, by default now. Reads Redis before its transaction, and
    writes nothing while nothing changes.
    """
    stale, total = stale_instruments()
    wall = wall or clock.wall_now()
    desk = read_desk()
    before = Standing(desk.is_stale, desk.turning_since)
    if next_standing(before, stale=len(stale), total=total, wall=wall) == before:
        return before.is_stale
    with transaction.atomic():
        desk = lock_desk()
        before = Standing(desk.is_stale, desk.turning_since)
        after = next_standing(before, stale=len(stale), total=total, wall=wall)
        desk.is_stale, desk.turning_since = after
        if after.is_stale != before.is_stale:
            desk.staleness = _told(stale, total)
        desk.save(update_fields=["is_stale", "turning_since", "staleness"])
        if after.is_stale != before.is_stale:
            record_state(
                owner=desk,
                state=TradingState.REDUCING if after.is_stale else TradingState.ACTIVE,
                cause=StateCause.STALENESS,
                reason=desk.staleness,
                details={"stale": stale, "instruments": total},
            )
            log.warning("desk_stale" if after.is_stale else "desk_fresh", why=desk.staleness)
    return after.is_stale


def stale_instruments() -> tuple[list[str], int]:
    """The instruments without a fresh price at an exchange where an active account trades, as
    `coin_id at exchange`, and how many there are in all. Reads Redis."""
    exchanges = set(Account.objects.filter(is_active=True).values_list("exchange", flat=True))
    traded = set(
        Instrument.objects.filter(is_enabled=True, is_strategy_enabled=True).values_list(
            "coin_id", flat=True
        )
    )
    now = clock.now()
    listings = [
        item
        for item in book_listings(at=now)
        if item.is_followed and item.exchange in exchanges and item.coin_id in traded
    ]
    books = live_books([(item.exchange, item.symbol) for item in listings])
    bound = clock.current().widen(OLD)
    stale = [
        f"{item.coin_id} at {item.exchange}"
        for item, book in zip(listings, books, strict=True)
        if book.event_time is None or now - book.event_time > bound
    ]
    return stale, len(listings)


def _told(stale: list[str], total: int) -> str:
    if not stale:
        return f"all {total} instruments have fresh prices"
    names = ", ".join(stale[:NAMED]) + (", ..." if len(stale) > NAMED else "")
    return f"{len(stale)} of {total} instruments have no fresh price: {names}"[:200]
