"""What every kind of order gets from a quote, a book and a bar: by table, and by law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.orders import Grid
from trading.simulator import (
    FILLED,
    LIMIT,
    MAKER,
    MARKET,
    NO_LIQUIDITY,
    NO_MATCH,
    STOP,
    STOP_LIMIT,
    TAKER,
    TRAILING_STOP,
    TRIGGERED,
    Match,
    Touch,
    WorkingOrder,
    is_reachable,
    market_fill_ticks,
    match_bar,
    match_book,
    match_quote,
    meets_minimum,
    trigger_of,
)

NAN = math.nan
BUY, SELL = 1, -1
GRID = Grid.of("0.01", "0.001")
WHOLE = Grid.of("1", "1")  # prices are ticks
SLIP = 10.0  # basis points: 0.1 of a price of 100


def order(
    kind: int,
    side: int,
    *,
    steps: int = 10,
    limit: int = 0,
    trigger: int = 0,
    trail: int = 0,
    mark: int = 0,
    is_triggered: bool = False,
) -> WorkingOrder:
    return WorkingOrder(kind, side, steps, limit, trigger, trail, mark, is_triggered)


def after(waiting: WorkingOrder, match: Match) -> WorkingOrder:
    """The order as it meets the next input."""
    return waiting._replace(
        remaining_steps=waiting.remaining_steps - match.steps,
        watermark_ticks=match.watermark_ticks,
        is_triggered=match.is_triggered,
    )


def fill(match: Match) -> tuple[int, int, int, int]:
    return match.action, match.steps, match.ticks, match.liquidity


def test_a_buy_pays_the_ask_and_a_sell_gets_the_bid_both_slipped() -> None:
    assert market_fill_ticks(1, 99.9, 100.0, 1.0, 1, 100) == 10_001
    assert market_fill_ticks(-1, 100.0, 100.1, 1.0, 1, 100) == 9_999
    assert market_fill_ticks(1, 99.9, 100.0, 0.0, 1, 100) == 10_000


NOTHING = (NO_MATCH, 0, 0, NO_LIQUIDITY)
IN_BOOK = (TRIGGERED, 0, 0, NO_LIQUIDITY)
# 99.90 bid for 4 steps, 100.00 asked for 6; slipped 99.80 and 100.10.
TOUCH = Touch(99.90, 0.004, 100.00, 0.006)


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        (order(MARKET, BUY), (FILLED, 10, 10_010, TAKER)),
        (order(MARKET, SELL), (FILLED, 10, 9_980, TAKER)),
        # It arrives: it takes what is within its limit, in full or as far as the touch shows.
        (order(LIMIT, BUY, limit=10_010), (FILLED, 10, 10_010, TAKER)),
        (order(LIMIT, BUY, limit=10_009), (FILLED, 6, 10_009, TAKER)),
        (order(LIMIT, BUY, limit=10_000), (FILLED, 6, 10_000, TAKER)),
        (order(LIMIT, BUY, limit=10_000, steps=5), (FILLED, 5, 10_000, TAKER)),
        (order(LIMIT, BUY, limit=9_999), IN_BOOK),
        (order(LIMIT, SELL, limit=9_980), (FILLED, 10, 9_980, TAKER)),
        (order(LIMIT, SELL, limit=9_990), (FILLED, 4, 9_990, TAKER)),
        (order(LIMIT, SELL, limit=9_991), IN_BOOK),
        # It rests: it is served at its limit by what crosses it.
        (order(LIMIT, BUY, limit=10_050, is_triggered=True), (FILLED, 6, 10_050, MAKER)),
        (order(LIMIT, BUY, limit=10_000, is_triggered=True), (FILLED, 6, 10_000, MAKER)),
        (order(LIMIT, BUY, limit=9_999, is_triggered=True), NOTHING),
        (order(LIMIT, SELL, limit=9_900, is_triggered=True), (FILLED, 4, 9_900, MAKER)),
        (order(LIMIT, SELL, limit=9_991, is_triggered=True), NOTHING),
        # A stop is set off by the price that it gets.
        (order(STOP, SELL, trigger=9_989), NOTHING),
        (order(STOP, SELL, trigger=9_990), (FILLED, 10, 9_980, TAKER)),
        (order(STOP, SELL, trigger=9_995), (FILLED, 10, 9_980, TAKER)),
        (order(STOP, BUY, trigger=10_001), NOTHING),
        (order(STOP, BUY, trigger=10_000), (FILLED, 10, 10_010, TAKER)),
        (order(STOP, SELL, trigger=1, is_triggered=True), (FILLED, 10, 9_980, TAKER)),
        # A stop-limit takes within its limit, or rests.
        (order(STOP_LIMIT, SELL, trigger=9_989, limit=9_900), NOTHING),
        (order(STOP_LIMIT, SELL, trigger=9_990, limit=9_900), (FILLED, 10, 9_980, TAKER)),
        (order(STOP_LIMIT, SELL, trigger=9_990, limit=9_985), (FILLED, 4, 9_985, TAKER)),
        (order(STOP_LIMIT, SELL, trigger=10_100, limit=10_090), IN_BOOK),
        (
            order(STOP_LIMIT, SELL, trigger=10_100, limit=9_985, is_triggered=True),
            (FILLED, 4, 9_985, MAKER),
        ),
        # A trailing stop: 30 ticks below the best bid, or above the best ask.
        (order(TRAILING_STOP, SELL, trail=30), NOTHING),
        (order(TRAILING_STOP, SELL, trail=30, mark=10_019), NOTHING),
        (order(TRAILING_STOP, SELL, trail=30, mark=10_020), (FILLED, 10, 9_980, TAKER)),
        (order(TRAILING_STOP, BUY, trail=30, mark=9_971), NOTHING),
        (order(TRAILING_STOP, BUY, trail=30, mark=9_970), (FILLED, 10, 10_010, TAKER)),
        # Until the trail has passed it, its own trigger holds.
        (order(TRAILING_STOP, SELL, trail=500, trigger=9_990), (FILLED, 10, 9_980, TAKER)),
        (order(TRAILING_STOP, BUY, trail=500, trigger=10_000), (FILLED, 10, 10_010, TAKER)),
        # What is no order is never filled.
        (order(MARKET, BUY, steps=0), NOTHING),
        (order(LIMIT, BUY), NOTHING),
        (order(STOP_LIMIT, BUY, trigger=1), NOTHING),
        (order(STOP, BUY), NOTHING),
        (order(STOP, SELL), NOTHING),
    ],
)
def test_quotes_as_a_table(waiting: WorkingOrder, expected: tuple[int, int, int, int]) -> None:
    match = match_quote(waiting, TOUCH, SLIP, GRID)
    assert fill(match) == expected
    if match.action == FILLED:
        touch = 10_000 if waiting.side > 0 else 9_990
        assert match.reference_ticks == (match.ticks if match.liquidity == MAKER else touch)


@pytest.mark.parametrize(
    "touch",
    [
        Touch(100.1, 1.0, 100.0, 1.0),  # crossed
        Touch(0.0, 1.0, 100.0, 1.0),
        Touch(NAN, 1.0, 100.0, 1.0),
        Touch(99.0, 1.0, NAN, 1.0),
        Touch(99.0, 1.0, math.inf, 1.0),
    ],
)
@pytest.mark.parametrize("kind", [MARKET, LIMIT, STOP, STOP_LIMIT, TRAILING_STOP])
def test_a_quote_that_is_none_changes_nothing(touch: Touch, kind: int) -> None:
    waiting = order(kind, BUY, limit=9_000, trigger=9_000, trail=5, mark=9_000)
    match = match_quote(waiting, touch, SLIP, GRID)
    assert (fill(match), after(waiting, match)) == (NOTHING, waiting)


def test_a_touch_that_shows_nothing_serves_nobody() -> None:
    empty = TOUCH._replace(ask_quantity=0.0009)
    assert fill(match_quote(order(LIMIT, BUY, limit=10_000), empty, SLIP, GRID)) == IN_BOOK
    resting = order(LIMIT, BUY, limit=10_000, is_triggered=True)
    assert fill(match_quote(resting, empty, SLIP, GRID)) == NOTHING


def test_a_limit_order_from_its_arrival_to_its_last_fill() -> None:
    """It takes what is there, then rests, and is served in parts at its limit."""
    waiting = order(LIMIT, BUY, limit=10_000, steps=15)
    fills = []
    for ask, quantity in ((100.00, 0.006), (100.01, 9.0), (99.50, 0.004), (99.99, 9.0)):
        match = match_quote(waiting, Touch(99.0, 1.0, ask, quantity), SLIP, GRID)
        waiting = after(waiting, match)
        fills.append(fill(match))
    assert fills == [
        (FILLED, 6, 10_000, TAKER),
        NOTHING,
        (FILLED, 4, 10_000, MAKER),
        (FILLED, 5, 10_000, MAKER),
    ]
    assert waiting.remaining_steps == 0


ASKS = (np.array([100.00, 100.02, 100.10]), np.array([0.006, 0.002, 0.008]))
BIDS = (np.array([99.90, 99.89, 98.00]), np.array([0.004, 0.003, 0.009]))


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        (order(MARKET, BUY, steps=8), (FILLED, 8, 10_001, TAKER)),
        (order(MARKET, BUY, steps=99), (FILLED, 16, 10_006, TAKER)),
        # The bound of 20 basis points keeps the sale from the level at 98.
        (order(MARKET, SELL, steps=99), (FILLED, 7, 9_989, TAKER)),
        (order(LIMIT, BUY, limit=10_002), (FILLED, 8, 10_001, TAKER)),
        (order(LIMIT, BUY, limit=9_999), IN_BOOK),
        (order(LIMIT, SELL, limit=9_000, steps=99), (FILLED, 7, 9_989, TAKER)),
        (order(LIMIT, BUY, limit=10_005, is_triggered=True), (FILLED, 8, 10_005, MAKER)),
        (order(LIMIT, BUY, limit=9_999, is_triggered=True), NOTHING),
        (order(LIMIT, SELL, limit=9_700, is_triggered=True, steps=99), (FILLED, 16, 9_700, MAKER)),
        (order(STOP, SELL, trigger=9_990), (FILLED, 7, 9_989, TAKER)),
        (order(STOP, SELL, trigger=9_989), NOTHING),
        (order(STOP_LIMIT, SELL, trigger=9_990, limit=9_990), (FILLED, 4, 9_990, TAKER)),
        (order(TRAILING_STOP, SELL, trail=30, mark=10_020), (FILLED, 7, 9_989, TAKER)),
        (order(TRAILING_STOP, SELL, trail=30, mark=10_019), NOTHING),
        (order(MARKET, BUY, steps=0), NOTHING),
        (order(LIMIT, BUY), NOTHING),
        (order(STOP, SELL), NOTHING),
    ],
)
def test_books_as_a_table(waiting: WorkingOrder, expected: tuple[int, int, int, int]) -> None:
    prices, quantities = ASKS if waiting.side > 0 else BIDS
    match = match_book(waiting, prices, quantities, 20.0, GRID)
    assert fill(match) == expected
    if match.liquidity == TAKER:
        assert match.reference_ticks == (10_000 if waiting.side > 0 else 9_990)


def test_a_market_order_that_finds_no_step_stays_open() -> None:
    waiting = order(MARKET, BUY)
    match = match_book(waiting, ASKS[0], np.zeros(3), 20.0, GRID)
    assert fill(match) == IN_BOOK
    nothing = np.array([], dtype=np.float64)
    assert fill(match_book(waiting, nothing, nothing, 20.0, GRID)) == NOTHING
    assert match_book(after(waiting, match), *ASKS, 20.0, GRID).steps == 10


# Open, high, low; the close decides nothing.
BAR = (100.00, 101.00, 99.00)


@pytest.mark.parametrize(
    ("waiting", "bar", "expected"),
    [
        (order(MARKET, BUY), BAR, (FILLED, 10, 10_010, TAKER)),
        (order(MARKET, SELL), BAR, (FILLED, 10, 9_990, TAKER)),
        # It arrives at the open.
        (order(LIMIT, BUY, limit=10_010), BAR, (FILLED, 10, 10_010, TAKER)),
        (order(LIMIT, BUY, limit=10_009), BAR, (FILLED, 10, 10_009, MAKER)),
        (order(LIMIT, BUY, limit=9_901), BAR, (FILLED, 10, 9_901, MAKER)),
        (order(LIMIT, BUY, limit=9_900), BAR, IN_BOOK),  # touched: others were there before
        (order(LIMIT, SELL, limit=9_990), BAR, (FILLED, 10, 9_990, TAKER)),
        (order(LIMIT, SELL, limit=10_099), BAR, (FILLED, 10, 10_099, MAKER)),
        (order(LIMIT, SELL, limit=10_100), BAR, IN_BOOK),
        # It rests.
        (order(LIMIT, BUY, limit=9_901, is_triggered=True), BAR, (FILLED, 10, 9_901, MAKER)),
        (order(LIMIT, BUY, limit=9_900, is_triggered=True), BAR, NOTHING),
        # A gap beyond the limit: who crossed the order paid its price.
        (order(LIMIT, BUY, limit=10_500, is_triggered=True), BAR, (FILLED, 10, 10_500, MAKER)),
        (order(LIMIT, SELL, limit=9_500, is_triggered=True), BAR, (FILLED, 10, 9_500, MAKER)),
        # A stop is set off by the extreme; through a gap, at the open.
        (order(STOP, SELL, trigger=9_900), BAR, (FILLED, 10, 9_890, TAKER)),
        (order(STOP, SELL, trigger=9_899), BAR, NOTHING),
        (order(STOP, SELL, trigger=10_500), BAR, (FILLED, 10, 9_990, TAKER)),
        (order(STOP, BUY, trigger=10_100), BAR, (FILLED, 10, 10_111, TAKER)),
        (order(STOP, BUY, trigger=10_101), BAR, NOTHING),
        (order(STOP, BUY, trigger=9_500), BAR, (FILLED, 10, 10_010, TAKER)),
        (order(STOP, SELL, trigger=1, is_triggered=True), BAR, (FILLED, 10, 9_990, TAKER)),
        # A stop-limit takes at its trigger within its limit, else it rests from the next bar on.
        (order(STOP_LIMIT, SELL, trigger=9_950, limit=9_940), BAR, (FILLED, 10, 9_940, TAKER)),
        (order(STOP_LIMIT, SELL, trigger=9_950, limit=9_941), BAR, IN_BOOK),
        (order(STOP_LIMIT, SELL, trigger=10_500, limit=10_050), BAR, IN_BOOK),
        (order(STOP_LIMIT, SELL, trigger=9_800, limit=9_700), BAR, NOTHING),
        (
            order(STOP_LIMIT, SELL, trigger=10_500, limit=10_050, is_triggered=True),
            BAR,
            (FILLED, 10, 10_050, MAKER),
        ),
        # A trailing stop knows the open; the high comes after the low, for all one can know.
        (order(TRAILING_STOP, SELL, trail=100), BAR, (FILLED, 10, 9_890, TAKER)),
        (order(TRAILING_STOP, SELL, trail=101), BAR, NOTHING),
        (order(TRAILING_STOP, SELL, trail=150, mark=10_050), BAR, (FILLED, 10, 9_890, TAKER)),
        (order(TRAILING_STOP, SELL, trail=151, mark=10_050), BAR, NOTHING),
        (order(TRAILING_STOP, SELL, trail=10, mark=10_050), BAR, (FILLED, 10, 9_990, TAKER)),
        (order(TRAILING_STOP, BUY, trail=100, mark=10_500), BAR, (FILLED, 10, 10_111, TAKER)),
        (order(TRAILING_STOP, BUY, trail=101, mark=10_500), BAR, NOTHING),
        # No bar.
        (order(MARKET, BUY), (NAN, 101.0, 99.0), NOTHING),
        (order(MARKET, BUY), (100.0, 99.9, 99.0), NOTHING),
        (order(MARKET, BUY), (100.0, 101.0, 0.0), NOTHING),
        (order(MARKET, BUY), (100.0, math.inf, 99.0), NOTHING),
        (order(LIMIT, BUY), BAR, NOTHING),
        (order(STOP, SELL), BAR, NOTHING),
    ],
)
def test_bars_as_a_table(
    waiting: WorkingOrder, bar: tuple[float, float, float], expected: tuple[int, int, int, int]
) -> None:
    assert fill(match_bar(waiting, *bar, SLIP, GRID)) == expected


def test_slippage_of_a_bar_counts_from_the_trigger_or_from_the_open() -> None:
    hit = match_bar(order(STOP, SELL, trigger=9_900), *BAR, SLIP, GRID)
    assert (hit.reference_ticks, hit.ticks) == (9_900, 9_890)
    gap = match_bar(order(STOP, SELL, trigger=10_500), *BAR, SLIP, GRID)
    assert (gap.reference_ticks, gap.ticks) == (10_000, 9_990)


def test_the_rest_of_a_bar_moves_the_watermark_for_the_next() -> None:
    waiting = order(TRAILING_STOP, SELL, trail=200)
    waiting = after(waiting, match_bar(waiting, *BAR, SLIP, GRID))
    assert waiting.watermark_ticks == 10_100
    assert trigger_of(waiting, waiting.watermark_ticks) == 9_900
    hit = match_bar(waiting, 99.50, 99.80, 99.00, SLIP, GRID)
    assert (hit.reference_ticks, hit.watermark_ticks) == (9_900, 10_100)


# -- Laws ----------------------------------------------------------------------------------------

PRICE = st.integers(50, 150)
SIDE = st.sampled_from([BUY, SELL])
ORDERS = st.builds(
    WorkingOrder,
    kind=st.sampled_from([MARKET, LIMIT, STOP, STOP_LIMIT, TRAILING_STOP]),
    side=SIDE,
    remaining_steps=st.integers(1, 20),
    limit_ticks=PRICE,
    trigger_ticks=PRICE,
    trail_ticks=st.integers(1, 30),
    watermark_ticks=st.just(0) | PRICE,
    is_triggered=st.booleans(),
)
TOUCHES = st.builds(
    lambda bid, spread, sold, bought: Touch(float(bid), sold, float(bid + spread), bought),
    PRICE,
    st.integers(0, 10),
    st.floats(0.0, 30.0),
    st.floats(0.0, 30.0),
)
BARS = st.tuples(PRICE, PRICE, PRICE).map(
    lambda prices: (float(sorted(prices)[1]), float(max(prices)), float(min(prices)))
)
BPS = st.floats(0.0, 500.0)


def judge(waiting: WorkingOrder, match: Match, best: int) -> None:
    """What holds of every match; `best` is the best price that the input had for the order."""
    assert 0 <= match.steps <= waiting.remaining_steps
    assert (match.action == FILLED) == (match.steps > 0) == (match.ticks > 0)
    assert match.is_triggered >= waiting.is_triggered
    if match.action == FILLED:
        if waiting.kind in (LIMIT, STOP_LIMIT):
            assert waiting.side * (match.ticks - waiting.limit_ticks) <= 0
        if match.liquidity == MAKER:
            assert match.ticks == match.reference_ticks == waiting.limit_ticks
        else:
            assert waiting.side * (match.ticks - match.reference_ticks) >= 0
            assert waiting.side * (match.reference_ticks - best) >= 0
    else:
        assert match.liquidity == match.reference_ticks == 0


@given(waiting=ORDERS, touch=TOUCHES, bps=BPS)
def test_no_order_gets_a_better_price_than_the_quote_has(
    waiting: WorkingOrder, touch: Touch, bps: float
) -> None:
    match = match_quote(waiting, touch, bps, WHOLE)
    judge(waiting, match, int(touch.best_ask if waiting.side > 0 else touch.best_bid))
    if match.liquidity == MAKER:
        assert match.steps <= (touch.ask_quantity if waiting.side > 0 else touch.bid_quantity)


@given(waiting=ORDERS, bar=BARS, bps=BPS)
def test_no_order_gets_a_better_price_than_the_bar_has(
    waiting: WorkingOrder, bar: tuple[float, float, float], bps: float
) -> None:
    judge(waiting, match_bar(waiting, *bar, bps, WHOLE), int(bar[2 if waiting.side > 0 else 1]))


@given(waiting=ORDERS, touch=TOUCHES)
def test_a_book_of_one_level_is_a_quote_without_slippage(
    waiting: WorkingOrder, touch: Touch
) -> None:
    side, quantity = waiting.side, touch.ask_quantity if waiting.side > 0 else touch.bid_quantity
    price = touch.best_ask if side > 0 else touch.best_bid
    book = match_book(waiting, np.array([price]), np.array([quantity]), 500.0, WHOLE)
    quote = match_quote(waiting, touch, 0.0, WHOLE)
    # A quote alone lets who takes without a limit have all; a book has no more than it shows.
    shown = min(waiting.remaining_steps, int(quantity + 1e-6))
    if quote.action == FILLED and quote.steps > shown:
        assert book.steps == shown
    else:
        assert book == quote


def mirrored(waiting: WorkingOrder) -> WorkingOrder:
    def flip(ticks: int) -> int:
        return 200 - ticks if ticks else 0

    return waiting._replace(
        side=-waiting.side,
        limit_ticks=flip(waiting.limit_ticks),
        trigger_ticks=flip(waiting.trigger_ticks),
        watermark_ticks=flip(waiting.watermark_ticks),
    )


def unmirrored(match: Match) -> Match:
    return match._replace(
        ticks=200 - match.ticks if match.ticks else 0,
        reference_ticks=200 - match.reference_ticks if match.reference_ticks else 0,
        watermark_ticks=200 - match.watermark_ticks if match.watermark_ticks else 0,
    )


@given(waiting=ORDERS, touch=TOUCHES, bar=BARS)
def test_buying_is_selling_in_a_mirror(
    waiting: WorkingOrder, touch: Touch, bar: tuple[float, float, float]
) -> None:
    other = Touch(
        200.0 - touch.best_ask, touch.ask_quantity, 200.0 - touch.best_bid, touch.bid_quantity
    )
    assert match_quote(waiting, touch, 0.0, WHOLE) == unmirrored(
        match_quote(mirrored(waiting), other, 0.0, WHOLE)
    )
    opened, high, low = bar
    assert match_bar(waiting, *bar, 0.0, WHOLE) == unmirrored(
        match_bar(mirrored(waiting), 200.0 - opened, 200.0 - low, 200.0 - high, 0.0, WHOLE)
    )


@given(
    waiting=ORDERS.map(lambda each: each._replace(kind=TRAILING_STOP, is_triggered=False)),
    inputs=st.lists(TOUCHES | BARS, min_size=1, max_size=30),
)
def test_a_trailing_stop_never_loosens(
    waiting: WorkingOrder, inputs: list[Touch | tuple[float, float, float]]
) -> None:
    side, tightest = waiting.side, None
    for market in inputs:
        if isinstance(market, Touch):
            match = match_quote(waiting, market, 0.0, WHOLE)
        else:
            match = match_bar(waiting, *market, 0.0, WHOLE)
        trigger = trigger_of(waiting, match.watermark_ticks)
        assert tightest is None or side * (trigger - tightest) <= 0
        tightest = trigger
        if match.action == FILLED:
            # Nothing is sold above its trigger, nor bought below.
            assert side * (match.ticks - trigger) >= 0
            break
        waiting = after(waiting, match)


@given(waiting=ORDERS, path=st.lists(PRICE, min_size=1, max_size=12))
def test_a_bar_sets_off_the_stops_that_its_path_does(
    waiting: WorkingOrder, path: list[int]
) -> None:
    """Followed trade by trade: the same stops, at the same price where that is the open."""
    waiting = waiting._replace(kind=STOP, is_triggered=False)
    bar = (float(path[0]), float(max(path)), float(min(path)))
    judged = match_bar(waiting, *bar, 0.0, WHOLE)
    trades = (match_quote(waiting, Touch(p, 99.0, p, 99.0), 0.0, WHOLE) for p in map(float, path))
    hits = [number for number, match in enumerate(trades) if match.action == FILLED]
    assert (judged.action == FILLED) == bool(hits)
    if hits:
        assert judged.ticks == (path[0] if hits[0] == 0 else waiting.trigger_ticks)


# -- Around the fill -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event_ms", "expected"), [(999, False), (1_000, False), (1_049, False), (1_050, True)]
)
def test_an_order_meets_the_first_quote_after_its_way_to_the_venue(
    event_ms: int, expected: bool
) -> None:
    assert is_reachable(1_000, 50, event_ms) is expected


@pytest.mark.parametrize(
    ("steps", "is_closing", "expected"),
    [(100, False, True), (99, False, False), (99, True, True), (1, True, True)],
)
def test_only_what_opens_must_be_worth_the_minimum(
    steps: int, is_closing: bool, expected: bool
) -> None:
    assert meets_minimum(steps, 5_000, 5.0, is_closing, GRID) is expected
