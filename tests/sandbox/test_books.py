"""Books: moved step by step they equal themselves made anew, and say whatever they touched."""

import math

import numpy as np
import pytest

from sandbox.bars import HOUR_MS, HourlyBars
from sandbox.books import REFRESH_STEPS, Book
from sandbox.instruments import SEEDED
from sandbox.path import PricePath

DAY = 19_800 * 24


def moving_path(price_decimals: int, closes: list[float]) -> PricePath:
    """A path of hours that close at these prices (USD)."""
    ticks = np.rint(np.array(closes) * 10**price_decimals).astype(np.int64)
    bars = HourlyBars(DAY, price_decimals, 3)
    opens = np.concatenate([ticks[:1], ticks[:-1]])
    volume = np.full(len(ticks), 10**6)
    high, low = np.maximum(opens, ticks), np.minimum(opens, ticks)
    bars.append(np.stack([opens, high, low, ticks, volume]))
    return PricePath(bars, 7, lambda hour: None)


def market(closes: list[float]) -> Book:
    """The book of bitcoin over a path."""
    return Book(SEEDED[0], moving_path(1, closes), 99)


CALM = [60_000.0 + 20 * math.sin(hour) for hour in range(30)]
WILD = [60_000.0 * math.exp(0.4 * math.sin(hour * 1.7)) for hour in range(30)]


@pytest.mark.parametrize("closes", [CALM, WILD], ids=["calm", "wild"])
@pytest.mark.parametrize("every_ms", [100, 60_000, 1_800_000])
def test_what_a_book_touches_turns_it_into_itself(closes: list[float], every_ms: int) -> None:
    book = market(closes)
    start_ms = DAY * HOUR_MS
    book.advance(start_ms, 0.0)
    watch = book.watch()
    bids, asks = (dict(side.sizes) for side in book.sides())
    steps = min(600, 29 * HOUR_MS // every_ms)
    moved = 0
    for number in range(1, steps):
        book.advance(start_ms + number * every_ms, 0.0)
        for kept, side, ranks in zip(
            (bids, asks), book.sides(), (watch.bids, watch.asks), strict=True
        ):
            for rank in ranks:
                moved += kept.get(rank, 0) != side.sizes.get(rank, 0)
                kept[rank] = side.sizes.get(rank, 0)
            ranks.clear()
            assert {rank: size for rank, size in kept.items() if size} == side.sizes
            assert side.ranks == sorted(side.sizes)
        bid_levels, ask_levels = book.levels()
        assert bid_levels[0] == book.top[:2] and ask_levels[0] == book.top[2:]
        assert bid_levels[0][0] < ask_levels[0][0]
        assert len(bid_levels) > 150 and len(ask_levels) > 150
        assert min(bid_levels)[0] > 0
    assert moved > steps


@pytest.mark.parametrize("steps", [1, 2, 5, REFRESH_STEPS - 1, REFRESH_STEPS, 40])
def test_a_book_looked_at_seldom_equals_one_looked_at_always(steps: int) -> None:
    often, seldom = market(CALM), market(CALM)
    start_ms = DAY * HOUR_MS
    for number in range(200):
        for book in (often, seldom):
            book.advance(start_ms + number * 100, 0.0)
        often.levels()
        if number % steps == 0:
            assert seldom.levels() == often.levels()


def test_ids_rise_by_more_than_the_gap_between_diff_and_snapshot() -> None:
    book = market(CALM)
    ids = []
    for number in range(500):
        book.advance(DAY * HOUR_MS + number * 100, 0.0)
        ids.append(book.update_id)
    assert min(np.diff(ids)) > 17
    before = book.update_id
    book.restart()
    assert book.update_id > before + 1_000_000


def test_a_penny_price_never_falls_below_zero() -> None:
    book = Book(SEEDED[0], moving_path(1, [2.0] * 30), 99)
    for number in range(50):
        book.advance(DAY * HOUR_MS + number * 1000, 0.0)
        bids, asks = book.levels()
        assert 0 < min(bids)[0] <= bids[0][0] < asks[0][0]
