"""The watch table: it tells of every quote that changes an order, and of hardly any other."""

from __future__ import annotations

import json
import queue
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.marketdata import Quote, to_ms
from tests.trading.books import book
from trading import tasks, watching
from trading.models import Account, Fill, Position
from trading.orders import Grid
from trading.simulator import (
    LIMIT,
    MARKET,
    NO_MATCH,
    STOP,
    STOP_LIMIT,
    TRAILING_STOP,
    Touch,
    WorkingOrder,
    match_quote,
)
from trading.watch import Watched, WatchTable
from trading.watching import watch_quotes

START = datetime(2021, 5, 13, tzinfo=UTC)
GRID = Grid.of("0.1", "0.001")


def quote(bid: float, ask: float | None = None, *, ms: int = 0, symbol: str = "BTCUSDT") -> Quote:
    return Quote(
        exchange="binance",
        symbol=symbol,
        best_bid=bid,
        bid_quantity=1.0,
        best_ask=bid + 0.1 if ask is None else ask,
        ask_quantity=1.0,
        event_time=START + timedelta(milliseconds=ms),
        received_at=START,
        sequence=ms,
    )


def order(kind: int, side: int, **fields: int) -> WorkingOrder:
    values = {"limit_ticks": 0, "trigger_ticks": 0, "trail_ticks": 0, "watermark_ticks": 0}
    return WorkingOrder(
        kind, side, 100, **{**values, **fields, "is_triggered": bool(fields.get("is_triggered"))}
    )


def watched(working: WorkingOrder, *, order_id: int = 1, reachable: int = 0) -> Watched:
    return Watched(
        order_id,
        "binance",
        "BTCUSDT",
        working,
        GRID.tick_num,
        GRID.tick_den,
        to_ms(START) + reachable,
    )


def table(*orders: Watched) -> WatchTable:
    made = WatchTable()
    made.offer(orders)
    return made


def bids(told: object) -> list[list[float]]:
    """The best bids of the quotes that were told of."""
    return [[each.best_bid for each in item.quotes] for item in told or ()]  # type: ignore[attr-defined]


def test_a_stop_is_told_of_once_and_again_with_the_next_rows() -> None:
    stop = watched(order(STOP, -1, trigger_ticks=990))
    watch = table(stop)
    assert watch.look(quote(99.1)) is None
    assert bids(watch.look(quote(99.0))) == [[99.0]]
    assert watch.look(quote(98.0)) is None, "it was told of"
    watch.offer([stop])
    assert bids(watch.look(quote(98.0))) == [[98.0]]


def test_an_order_meets_what_came_before_anybody_knew_of_it() -> None:
    first = watched(order(STOP, -1, trigger_ticks=900))
    second = watched(order(STOP, -1, trigger_ticks=990), order_id=2, reachable=100)
    trail = watched(order(TRAILING_STOP, -1, trail_ticks=20), order_id=3)
    watch = table(first)
    assert watch.look(quote(98.0, ms=99)) is None
    assert watch.look(quote(98.5, ms=101)) is None
    watch.offer([first])  # read before the others were placed, adopted after
    assert watch.look(quote(100.0, ms=102)) is None
    watch.offer([first, second, trail])
    watch.offer([first, second, trail])
    told = watch.look(quote(100.0, ms=103))
    assert bids(told) == [[98.5], [100.0]], "the stop it reached, and the best for the trail"
    assert watch.look(quote(98.6, ms=104)) is None, "it was told of"
    assert bids(watch.look(quote(97.9, ms=105))) == [[97.9]], "the trail went on from there"
    watch.offer([first, second])
    assert bids(watch.look(quote(98.6, ms=106))) == [[98.6]]


def test_only_its_own_symbol_and_exchange_reach_an_order() -> None:
    watch = table(watched(order(STOP, -1, trigger_ticks=990)))
    assert watch.look(quote(50.0, symbol="ETHUSDT")) is None
    assert watch.look(quote(50.0)) is not None


def test_an_order_meets_no_quote_before_it_has_arrived() -> None:
    watch = table(
        watched(order(STOP, -1, trigger_ticks=990), reachable=100),
        watched(order(STOP, -1, trigger_ticks=980), order_id=2),
    )
    assert bids(watch.look(quote(97.0, ms=99))) == [[97.0]], "the second has arrived"
    assert watch.look(quote(97.0, ms=99)) is None
    assert bids(watch.look(quote(97.0, ms=100))) == [[97.0]]


def test_a_trailing_stop_is_told_of_with_the_best_quote_before() -> None:
    watch = table(watched(order(TRAILING_STOP, -1, trail_ticks=20)))
    for bid in (100.0, 101.0, 103.0, 102.0):
        assert watch.look(quote(bid)) is None
    assert bids(watch.look(quote(101.0))) == [[103.0, 101.0]]


def test_the_best_quote_of_a_trailing_stop_is_handed_over_with_the_next_rows() -> None:
    stop = watched(order(TRAILING_STOP, -1, trail_ticks=20, watermark_ticks=1000))
    watch = table(stop)
    assert watch.look(quote(103.0)) is None
    watch.offer([stop])
    assert bids(watch.look(quote(102.0))) == [[103.0]], "the row does not know of it yet"
    assert watch.look(quote(102.0)) is None
    assert bids(watch.look(quote(101.0))) == [[101.0]], "the level has followed"


def test_a_quote_that_nobody_can_trade_at_reaches_nothing() -> None:
    watch = table(watched(order(MARKET, -1)))
    for bid, ask in ((float("nan"), 1.0), (0.0, 1.0), (2.0, 1.0), (1.0, float("inf"))):
        assert watch.look(quote(bid, ask)) is None


@pytest.mark.django_db(transaction=True)
def test_a_stop_that_a_quote_touches_is_filled_at_once(
    world: Any, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the quote to the message, with the rows read as they are written; then the worker's
    part, with what the message carries."""
    messages: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(
        tasks.work_quotes, "apply_async", lambda args, **_: messages.put(json.dumps(args))
    )
    world.at(START + timedelta(minutes=30))
    bitcoin = world.listed("bitcoin")
    at = {"symbol": "BITCOINUSDT", "ms": 60_000}
    with watch_quotes() as watch:
        # Its first look is over when it has heard that there are orders.
        assert watching.redis_client().ping()
        book(account, bitcoin, 500, 1000, START, stop_loss=99.0, take_profit=104.0)
        began = time.monotonic()
        while messages.empty() and time.monotonic() < began + 5:
            watch(quote(100.0, **at))
            watch(quote(98.95, **at))
            watch(quote(99.5, **at))
            time.sleep(0.005)
        took = time.monotonic() - began
        message = json.loads(messages.get(timeout=1))
        assert [each["best_bid"] for each in message[2]] == [98.95]
        assert took < 1.0, "before the table is read again by itself"
        tasks.work_quotes(*message)
    fill = Fill.objects.latest("id")
    assert (fill.order.leg, fill.quantity_steps) == ("stop_loss", 500)
    assert Position.objects.get().quantity_steps == 0
    tasks.work_quotes(*message)
    assert Fill.objects.count() == 2, "a message that comes twice"


@pytest.mark.django_db
def test_the_sweep_finds_what_no_message_told_of(world: Any, account: Account) -> None:
    world.at(START + timedelta(minutes=30))
    bitcoin = world.listed("bitcoin")
    book(account, bitcoin, 500, 1000, START + timedelta(minutes=20), stop_loss=99.0)
    world.quote("bitcoin", 98.0, 98.1)
    tasks.sweep_orders()
    assert Fill.objects.latest("id").order.leg == "stop_loss"


ticks = st.integers(min_value=950, max_value=1050)
orders = st.builds(
    lambda kind, side, limit, trigger, trail, watermark, is_triggered: WorkingOrder(
        kind, side, 100,
        limit if kind in (LIMIT, STOP_LIMIT) else 0,
        trigger if kind in (STOP, STOP_LIMIT) or (kind == TRAILING_STOP and trigger % 2) else 0,
        trail if kind == TRAILING_STOP else 0,
        watermark if kind == TRAILING_STOP and watermark % 3 else 0,
        is_triggered,
    ),
    st.sampled_from((MARKET, LIMIT, STOP, STOP_LIMIT, TRAILING_STOP)),
    st.sampled_from((1, -1)), ticks, ticks, st.integers(1, 30), ticks, st.booleans(),
)  # fmt: skip
# On ticks, between them, and a hair beside them.
prices = st.tuples(
    st.integers(min_value=9500, max_value=10500).map(lambda cents: cents / 100),
    st.sampled_from((0.0, 1e-9, -1e-9)),
).map(sum)


@given(orders, st.lists(st.tuples(prices, st.integers(0, 20)), min_size=1, max_size=12))
def test_whatever_changes_an_order_is_told_of(
    working: WorkingOrder, path: list[tuple[float, int]]
) -> None:
    """The simulator, shown only what the table tells of, does what it does with every quote."""
    watch = table(watched(working))
    seen = shown = working
    for ms, (bid, spread) in enumerate(path):
        now = quote(bid, bid + spread / 100, ms=ms)
        touch = Touch(now.best_bid, 1.0, now.best_ask, 1.0)
        match = match_quote(seen, touch, 1.0, GRID)
        told = [each for item in watch.look(now) or () for each in item.quotes]
        for each in told:
            met = match_quote(shown, Touch(each.best_bid, 1.0, each.best_ask, 1.0), 1.0, GRID)
            shown = shown._replace(
                watermark_ticks=met.watermark_ticks, is_triggered=met.is_triggered
            )
        if match.action != NO_MATCH:
            assert told and told[-1] is now
            assert met == match
            return
        assert not told, "nothing was to be done"
        seen = seen._replace(watermark_ticks=match.watermark_ticks)
