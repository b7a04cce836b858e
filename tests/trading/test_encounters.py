"""What a fill records is all that its match was made from."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from collectors.marketdata import Quote
from trading.encounters import BarMet, BookMet, Encounter, QuoteMet, match_again
from trading.orders import Grid
from trading.simulator import (
    FILLED,
    LIMIT,
    MARKET,
    STOP,
    STOP_LIMIT,
    TRAILING_STOP,
    WorkingOrder,
)

START = datetime(2021, 5, 13, tzinfo=UTC)
GRID = Grid.of("0.1", "0.001")
TICKS = st.integers(950, 1050)
PRICE = st.floats(95.0, 105.0)
QUANTITY = st.floats(0.0, 3.0)
ORDERS = st.builds(
    WorkingOrder,
    kind=st.sampled_from([MARKET, LIMIT, STOP, STOP_LIMIT, TRAILING_STOP]),
    side=st.sampled_from([1, -1]),
    remaining_steps=st.integers(1, 5000),
    limit_ticks=TICKS,
    trigger_ticks=TICKS,
    trail_ticks=st.integers(1, 50),
    watermark_ticks=st.one_of(st.just(0), TICKS),
    is_triggered=st.booleans(),
)


def quote(prices: tuple[float, float], quantities: tuple[float, float]) -> Quote:
    return Quote(
        exchange="binance",
        symbol="BTCUSDT",
        best_bid=min(prices),
        bid_quantity=quantities[0],
        best_ask=max(prices),
        ask_quantity=quantities[1],
        event_time=START,
        received_at=START,
        sequence=1,
    )


QUOTES = st.builds(quote, st.tuples(PRICE, PRICE), st.tuples(QUANTITY, QUANTITY))
FACTS = st.one_of(st.just(float("nan")), st.floats(0.001, 0.5))
LEVELS = st.lists(st.tuples(PRICE, QUANTITY), max_size=6)


@st.composite
def encounters(draw: st.DrawFn) -> Encounter:
    which = draw(st.integers(0, 2))
    if which == 0:
        return QuoteMet(quote=draw(QUOTES), volatility=draw(FACTS), day_volume=1e6)
    if which == 1:
        return BookMet(
            quote=draw(QUOTES),
            bids=tuple(sorted(draw(LEVELS), reverse=True)),
            asks=tuple(sorted(draw(LEVELS))),
            seen=draw(st.one_of(st.none(), QUOTES)),
        )
    low, opened, close, high = sorted(draw(st.tuples(PRICE, PRICE, PRICE, PRICE)))
    return BarMet(
        open_time=START,
        close_time=START + timedelta(hours=1),
        open=opened,
        high=high,
        low=low,
        close=close,
        source="binance",
        volatility=draw(FACTS),
        day_volume=1e6,
    )


@given(met=encounters(), order=ORDERS)
def test_a_record_makes_the_same_fill_again(met: Encounter, order: WorkingOrder) -> None:
    found = met.first([order], [GRID])
    if found is None:
        return
    match = found[1]
    assert match.action == FILLED
    record = json.loads(json.dumps(met.record(order, GRID)))
    again = match_again(record, GRID)
    assert again[:5] == match[:5]


@given(met=encounters(), order=ORDERS)
def test_nothing_fills_beyond_what_it_asked_for(met: Encounter, order: WorkingOrder) -> None:
    match = met.match(order, GRID)
    assert 0 <= match.steps <= order.remaining_steps
    if match.steps and order.kind in (LIMIT, STOP_LIMIT):
        assert order.side * (match.ticks - order.limit_ticks) <= 0
