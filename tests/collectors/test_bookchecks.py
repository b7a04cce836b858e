"""How far a kept book is known, and whether it is what its venue says elsewhere: a fresh snapshot,
the channel of best prices."""

import msgspec
import pytest

from collectors.keptbook import KeptBook, Want
from collectors.venues import DepthSnapshot, Level
from tests.collectors.booktruth import (
    BINANCE,
    SYMBOL,
    Bybit,
    Futures,
    Market,
    is_true,
    quote,
    raw,
    synced,
)

STEPS = 60


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(STEPS)


def deep(sequence: int, *, levels: int = 1_000, bid: float = 100.0) -> DepthSnapshot:
    return DepthSnapshot(
        exchange="binance",
        symbol=SYMBOL,
        sequence=sequence,
        bids=tuple(Level(round(bid - rank / 100, 2), 1.0) for rank in range(levels)),
        asks=tuple(Level(round(bid + 0.01 + rank / 100, 2), 1.0) for rank in range(levels)),
    )


class Diffs:
    """Diffs of USD-M, each of one id, that simply follow each other."""

    def __init__(self) -> None:
        self.book = Futures(Market(0)).book()
        self.at = 0

    def take(
        self,
        bids: dict[float, float] | None = None,
        asks: dict[float, float] | None = None,
        book: KeptBook | None = None,
    ) -> bool:
        self.at += 1
        event = {"E": 1, "s": SYMBOL, "U": self.at, "u": self.at, "pu": self.at - 1}
        sides = {
            "b": [[f"{price:.2f}", f"{size}"] for price, size in (bids or {}).items()],
            "a": [[f"{price:.2f}", f"{size}"] for price, size in (asks or {}).items()],
        }
        message = raw({"stream": "btcusdt@depth@100ms", "data": event | sides})
        return Futures(Market(0)).take(book or self.book, message)


@pytest.fixture
def diffs() -> Diffs:
    given = Diffs()
    given.take()
    given.book.take_snapshot(deep(1))
    assert given.book.is_synced
    return given


def test_a_book_whose_touch_comes_near_the_end_of_the_known_wants_a_snapshot(diffs):
    book = diffs.book
    assert book.snapshot_levels == 1_000
    for rank in range(749):
        assert not diffs.take({100.0 - rank / 100: 0.0})
    assert diffs.take({100.0 - 749 / 100: 0.0})
    # It is still right, and still served.
    assert (book.is_synced, book.want) == (True, Want.SNAPSHOT)
    fresh = deep(diffs.at, bid=92.5)
    known = tuple(Level(round(100.01 + rank / 100, 2), 1.0) for rank in range(1_000))
    assert book.take_snapshot(msgspec.structs.replace(fresh, asks=known))
    assert (book.is_synced, book.want, book.resyncs) == (True, Want.NOTHING, 0)
    assert book.book.bid_edge == pytest.approx(92.5 - 9.99)
    assert not diffs.take({92.5: 0.0})


def test_a_book_that_has_run_out_of_the_known_is_withheld(diffs):
    assert diffs.take({price: 0.0 for price in list(diffs.book.book.bids)})
    assert not diffs.book.is_synced
    assert "nothing is known" in diffs.book.reason


def test_a_snapshot_that_shows_all_there_is_has_no_end():
    given = Diffs()
    given.take()
    given.book.take_snapshot(deep(1, levels=30))
    given.take({50.0: 2.0}, {150.0: 2.0})
    assert given.book.book.bids[50.0] == given.book.book.asks[150.0] == 2.0
    notional = sum(100.0 - rank / 100 for rank in range(30)) + 2 * 50.0
    assert given.book.book.depth(9_000)[0] == pytest.approx(notional)


# Another look at the truth: a fresh snapshot, the channel of best prices.


@pytest.mark.parametrize("venue_class", BINANCE)
@pytest.mark.parametrize("lead", [-3, -2, -1, 0, 1, 2, 3])
def test_a_fresh_snapshot_agrees_with_a_right_book(venue_class, lead, market):
    venue = venue_class(market)
    book = synced(venue, 20)
    book.expect_snapshot()
    for number in range(21, 26):
        venue.take(book, venue.message(number))
    agreed = book.check_against(venue.snapshot(25 + lead))
    assert agreed is (True if lead <= 0 else None)
    for number in range(26, 32):
        assert not venue.take(book, venue.message(number)) or book.want is Want.NOTHING
        assert is_true(book, venue.states())
    assert (book.want, book.checks) == (Want.NOTHING, 1)


@pytest.mark.parametrize("venue_class", BINANCE)
@pytest.mark.parametrize("lead", [-3, -1, 0, 1, 3])
def test_a_fresh_snapshot_that_differs_withholds_the_book(venue_class, lead, market):
    venue = venue_class(market)
    book = synced(venue, 20)
    book.expect_snapshot()
    for number in range(21, 26):
        venue.take(book, venue.message(number))
    right = venue.snapshot(25 + lead)
    # A level that nobody changes meanwhile: it has to be there, and is not in the snapshot.
    calm = next(
        level
        for level in right.bids
        if all(level.price not in bids for bids, _ in market.changes[18:32])
    )
    wrong = tuple(level for level in right.bids if level is not calm)
    agreed = book.check_against(msgspec.structs.replace(right, bids=wrong))
    assert agreed is (False if lead <= 0 else None)
    for number in range(26, 32):
        venue.take(book, venue.message(number))
    assert (book.is_synced, book.checks) == (False, 0)
    assert f"bid {calm.price}" in book.reason
    assert book.want is Want.SNAPSHOT
    assert book.take_snapshot(venue.snapshot(30))
    assert is_true(book, venue.states())


@pytest.mark.parametrize("venue_class", BINANCE)
def test_a_snapshot_from_before_it_was_expected_is_no_evidence(venue_class, market):
    venue = venue_class(market)
    book = synced(venue, 20)
    wrong = msgspec.structs.replace(venue.snapshot(18), bids=venue.snapshot(3).bids)
    assert book.check_against(wrong) is None
    book.expect_snapshot()
    venue.take(book, venue.message(21))
    assert book.check_against(wrong) is None
    assert is_true(book, venue.states())


def test_rest_snapshots_of_bybit_are_not_compared(market):
    venue = Bybit(market)
    book = synced(venue, 20)
    assert book.check_against(venue.snapshot(3)) is None
    assert is_true(book, venue.states())


@pytest.mark.parametrize("venue_class", BINANCE)
@pytest.mark.parametrize("lead", [0, 1, 4])
def test_the_channel_of_best_prices_confirms_a_right_book(venue_class, lead, market):
    """Whichever of the two channels is ahead, and by how much."""
    venue = venue_class(market)
    book = synced(venue, 5)
    for number in range(6, STEPS):
        for _ in range(2):  # quotes come more than once, or late
            if number + lead < STEPS:
                assert not book.check_top(venue.quote(number + lead))
            assert not book.check_top(venue.quote(number - 1))
        venue.take(book, venue.message(number))
        assert is_true(book, venue.states())


def test_three_different_tops_in_a_row_withhold_the_book(diffs):
    book = diffs.book
    right, wrong = (100.0, 1.0, 100.01, 1.0), (100.0, 1.0, 100.01, 5.0)

    def see(*tops: tuple[float, float, float, float]) -> list[bool]:
        seen = []
        for top in tops:
            book.check_top(quote(diffs.at, top))
            diffs.take()
            seen.append(book.is_synced)
        return seen

    assert see(right, wrong, wrong, right, wrong, wrong, right) == [True] * 7
    assert see(wrong, wrong, wrong) == [True, True, False]
    assert "channel of best prices" in book.reason
    assert book.want in (Want.WAIT, Want.SNAPSHOT)
    diffs.take()
    assert book.take_snapshot(deep(diffs.at))
    assert see(right, right, right) == [True] * 3


def test_one_lost_quote_is_one_difference_however_long_it_is_missed(diffs):
    stale = (99.0, 1.0, 100.01, 1.0)
    diffs.book.check_top(quote(diffs.at, stale))
    for _ in range(20):
        diffs.take()
    assert not diffs.book.check_top(quote(diffs.at, (100.0, 1.0, 100.01, 1.0)))
    for _ in range(20):
        diffs.take()
    assert not diffs.book.check_top(quote(diffs.at + 1, (100.0, 1.0, 100.01, 1.0)))
    assert diffs.book.is_synced


def test_the_tops_of_bybit_count_otherwise_and_are_not_compared(market):
    venue = Bybit(market)
    book = synced(venue, 5)
    for number in range(6, 20):
        assert not book.check_top(quote(venue.last_id(number), (1.0, 1.0, 2.0, 1.0)))
        venue.take(book, venue.message(number))
        assert is_true(book, venue.states())
