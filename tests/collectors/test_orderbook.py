"""The order book against plain dictionaries, and what it says at the edge of what it knows."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.orderbook import KEPT_LEVELS, MOST_LEVELS, OrderBook

PRICES = st.integers(1, 60).map(lambda ticks: float(f"{ticks / 10:.1f}"))
QUANTITIES = st.sampled_from([0.0, 0.001, 1.0, 2.5, 1e9])
LEVELS = st.lists(st.tuples(PRICES, QUANTITIES), max_size=12)
MESSAGES = st.lists(st.tuples(LEVELS, LEVELS), max_size=30)


def merged(side: dict[float, float], levels: list[tuple[float, float]]) -> dict[float, float]:
    side = side | dict(levels)
    return {price: quantity for price, quantity in side.items() if quantity}


def book_of(bids: list[tuple[float, float]], asks: list[tuple[float, float]]) -> OrderBook:
    book = OrderBook()
    book.reset(bids, asks)
    return book


@given(LEVELS, LEVELS, MESSAGES)
def test_a_book_is_the_dictionary_of_its_levels(start_bids, start_asks, messages):
    book = book_of(start_bids, start_asks)
    bids, asks = merged({}, start_bids), merged({}, start_asks)
    for bid_levels, ask_levels in [([], []), *messages]:
        book.apply(bid_levels, ask_levels)
        bids, asks = merged(bids, bid_levels), merged(asks, ask_levels)
        assert book.bids == bids
        assert book.asks == asks
        assert book.best_bids(1000) == sorted(bids.items(), reverse=True)
        assert book.best_asks(1000) == sorted(asks.items())
        assert book.best_bid == max(bids, default=None)
        assert book.best_ask == min(asks, default=None)
        assert (book.top is None) == (not bids or not asks)


@given(LEVELS, LEVELS, MESSAGES, PRICES, PRICES)
def test_down_to_its_edges_a_book_is_the_whole_book(bids, asks, messages, bid_edge, ask_edge):
    whole, part = book_of(bids, asks), OrderBook()
    part.reset(bids, asks, bid_edge=bid_edge, ask_edge=ask_edge)
    for bid_levels, ask_levels in messages:
        whole.apply(bid_levels, ask_levels)
        part.apply(bid_levels, ask_levels)
        assert part.bids == {p: q for p, q in whole.bids.items() if p >= bid_edge}
        assert part.asks == {p: q for p, q in whole.asks.items() if p <= ask_edge}
        assert part.difference(whole) == whole.difference(part) == ""


@given(LEVELS, LEVELS, MESSAGES, st.floats(0.1, 9000), st.floats(0.001, 20), st.integers(1, 20))
def test_what_a_part_of_a_book_answers_is_what_the_whole_answers(
    bids, asks, messages, bps, quantity, levels
):
    whole, part = book_of(bids, asks), OrderBook()
    part.reset(bids, asks, bid_edge=1.5, ask_edge=4.5)
    for bid_levels, ask_levels in messages:
        whole.apply(bid_levels, ask_levels)
        part.apply(bid_levels, ask_levels)
    if part.top is None:
        return
    for ours, theirs in zip(part.depth(bps), whole.depth(bps), strict=True):
        assert ours is None or ours == theirs
    assert part.imbalance(levels) in (None, whole.imbalance(levels))
    assert part.cost("buy", quantity) in (None, whole.cost("buy", quantity))
    assert part.cost("sell", quantity) in (None, whole.cost("sell", quantity))


def test_answers_of_a_small_book():
    book = book_of([(99.0, 2.0), (98.0, 4.0)], [(101.0, 1.0), (103.0, 5.0)])
    assert book.top == (99.0, 2.0, 101.0, 1.0)
    assert (book.mid_price, book.spread) == (100.0, 2.0)
    assert book.spread_bps == pytest.approx(200)
    assert book.depth(100) == (198.0, 101.0)
    assert book.depth(300) == (99.0 * 2 + 98.0 * 4, 101.0 + 103.0 * 5)
    assert book.imbalance(1) == pytest.approx(1 / 3)
    assert book.imbalance(5) == 0.0
    bought = book.cost("buy", 3.0)
    assert bought is not None
    assert bought.average_price == pytest.approx((101 + 2 * 103) / 3)
    assert bought.slippage_bps == pytest.approx(1e4 * ((101 + 2 * 103) / 3 - 100) / 100)
    sold = book.cost("sell", 2.0)
    assert sold == (99.0, pytest.approx(100))
    assert book.cost("buy", 6.001) is None


@pytest.mark.parametrize("quantity", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_quantity_has_no_cost(quantity):
    with pytest.raises(ValueError, match="no quantity"):
        book_of([(99.0, 2.0)], [(101.0, 1.0)]).cost("buy", quantity)


def test_an_empty_side_has_no_answers():
    book = book_of([(99.0, 2.0)], [])
    assert book.best_bid == 99.0
    assert book.best_ask is book.top is book.mid_price is book.spread is book.spread_bps is None
    assert book.depth(10) == (None, None)
    assert book.imbalance(5) is book.cost("sell", 1.0) is None


def test_beyond_the_edge_nothing_is_answered():
    book = OrderBook()
    book.reset([(99.0, 2.0), (98.0, 4.0)], [(101.0, 1.0)], bid_edge=98.0)
    assert book.depth(100) == (198.0, 101.0)
    assert book.depth(201) == (None, 101.0)
    assert book.imbalance(2) == pytest.approx(5 / 7)
    assert book.imbalance(3) is None
    assert book.cost("sell", 6.0) is not None
    assert book.cost("sell", 6.5) is None
    assert book.is_scarce(2)
    assert not book.is_scarce(1)
    # A level beyond the edge tells nothing of its neighbours.
    book.apply([(97.0, 9.0)], [])
    assert book.best_bids(5) == [(99.0, 2.0), (98.0, 4.0)]
    assert book.cost("sell", 6.5) is None


def test_a_window_is_known_to_its_last_level_while_it_is_full():
    book = OrderBook(window=2)
    book.reset([(99.0, 2.0), (98.0, 4.0)], [(101.0, 1.0)])
    assert (book.bid_edge, book.ask_edge) == (98.0, math.inf)
    assert book.depth(500) == (None, 101.0)
    assert book.cost("sell", 7.0) is None
    book.apply([(98.5, 1.0)], [(102.0, 1.0), (103.0, 1.0)])
    assert book.best_bids(5) == [(99.0, 2.0), (98.5, 1.0)]
    assert book.best_asks(5) == [(101.0, 1.0), (102.0, 1.0)]
    book.apply([(99.0, 0.0)], [])
    assert book.bid_edge == 0.0
    book.apply([(97.0, 3.0)], [])
    assert book.best_bids(5) == [(98.5, 1.0), (97.0, 3.0)]


def test_a_copy_goes_its_own_way():
    book = OrderBook()
    book.reset([(99.0, 2.0)], [(101.0, 1.0)], bid_edge=99.0, ask_edge=101.0)
    other = book.copy()
    other.apply([(99.0, 0.0), (100.0, 1.0)], [(101.0, 3.0)])
    assert book.top == (99.0, 2.0, 101.0, 1.0)
    assert other.top == (100.0, 1.0, 101.0, 3.0)
    assert (other.bid_edge, other.ask_edge) == (99.0, 101.0)
    assert book.difference(other) == "bid 100.0: None, 1.0"


def test_ten_thousand_levels_a_side_stay_fast():
    book = book_of(
        [(50_000.0 - tick, 1.0) for tick in range(10_000)],
        [(50_001.0 + tick, 1.0) for tick in range(10_000)],
    )
    best = math.inf
    for _ in range(5):
        started = time.process_time()
        for tick in range(1_000):
            near = tick % 50
            book.apply([(50_000.0 - near, 0.0)], [(50_001.0 + near, 0.0)])
            book.apply([(50_000.0 - near, 2.0)], [(50_001.0 + near, 2.0)])
        best = min(best, time.process_time() - started)
    assert len(book.bids) == len(book.asks) == 10_000
    # Eight microseconds in truth; sorting ten thousand prices again would be a hundred times that.
    assert best / 4_000 < 100e-6


def test_a_book_that_grows_without_end_forgets_its_worst_levels_and_knows_it():
    book = book_of([(50_000.0, 1.0)], [(50_001.0, 1.0)])
    for tick in range(1, 3 * MOST_LEVELS):
        book.apply([(50_000.0 - tick / 8, 1.0)], [(50_001.0 + tick / 8, 1.0)])
        assert len(book.bids) <= MOST_LEVELS
        assert len(book.asks) <= MOST_LEVELS
    assert KEPT_LEVELS <= len(book.bids)
    assert book.best_bid == 50_000.0
    assert book.bid_edge == 50_000.0 - (KEPT_LEVELS - 1) / 8
    assert book.ask_edge == 50_001.0 + (KEPT_LEVELS - 1) / 8
    assert book.depth(10) != (None, None)
    assert book.depth(9_000) == (None, None)
