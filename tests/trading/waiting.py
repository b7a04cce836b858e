"""Orders in bitcoin that wait, and a market that comes to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from collectors import clock
from collectors.livebook import LiveBook
from collectors.marketdata import Quote
from trading.encounters import match_again
from trading.models import Account, Fill, Order, Position
from trading.orders import Grid
from trading.services import locked_account, reconcile, work_account
from trading.services.placing import Ticket, place_order
from trading.services.venues import venue_of

START = datetime(2021, 5, 13, tzinfo=UTC)
SYMBOL = "BITCOINUSDT"
Levels = tuple[tuple[float, float], ...]
BIDS: Levels = ((100.0, 0.5), (99.5, 0.5), (99.0, 10.0))
ASKS: Levels = ((100.1, 1.0), (100.5, 0.2), (106.0, 10.0))


def place(world: Any, account: Account, leg: str, side: int, steps: int, **fields: Any) -> Order:
    """A working order in bitcoin, placed now."""
    instrument = world.listed("bitcoin")
    venue = venue_of(instrument=instrument, exchange="binance", at=clock.now())
    assert venue is not None
    with locked_account(account.pk) as current:
        return place_order(
            account=current,
            instrument=instrument,
            venue=venue,
            ticket=Ticket(leg=leg, side=side, steps=steps, **fields),
            at=clock.now(),
        )


def sweep(world: Any, account: Account, moment: datetime, bid: float, ask: float) -> int:
    """The market is at a quote, and the account's orders meet it; the fills."""
    world.at(moment)
    world.quote("bitcoin", bid, ask)
    count = work_account(account_id=account.pk)
    check(account)
    return count


def check(account: Account) -> None:
    """The books add up, and every fill follows from what it recorded."""
    assert reconcile(account_id=account.pk).mismatches == ()
    for fill in Fill.objects.select_related("order"):
        grid = Grid.of(fill.order.tick_size, fill.order.quantity_step)
        match = match_again(fill.quote, grid)
        assert (match.ticks, match.steps) == (fill.price_ticks, fill.quantity_steps)


def enter(world: Any, account: Account, steps: int = 1500, **fields: Any) -> Position:
    """A long position in bitcoin from a market order that met 100.0 / 100.1."""
    place(world, account, "open", 1, steps, stop_loss=95.0, take_profit=110.0, **fields)
    assert sweep(world, account, START + 31 * timedelta(minutes=1), 100.0, 100.1) == 1
    return Position.objects.get()


def show_book(world: Any, bids: Levels, asks: Levels, *, at: datetime | None = None) -> Quote:
    """The synchronised book that the stream has written; the quote at its top."""
    live = LiveBook(
        exchange="binance",
        symbol=SYMBOL,
        best_bid=bids[0][0],
        bid_quantity=bids[0][1],
        best_ask=asks[0][0],
        ask_quantity=asks[0][1],
        event_time=at or clock.now() + timedelta(milliseconds=200),
        received_at=clock.wall_now(),
        said_at=clock.wall_now(),
        sequence=7,
        is_synced=True,
        bids=bids,
        asks=asks,
    )
    raw = msgspec.json.encode(live)
    world.redis.set(f"orderbook:binance:{SYMBOL}", raw)
    return msgspec.json.decode(raw, type=Quote)
