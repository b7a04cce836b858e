"""Books are never silently wrong: every venue's run with every single fault, and what else a venue
or its imitators may say."""

from collections.abc import Callable

import msgspec
import pytest

from collectors.exchanges.binance.books import decode_futures, decode_spot
from collectors.exchanges.bybit.books import decode_book
from collectors.keptbook import KeptBook, Want
from collectors.venues import Level
from tests.collectors.booktruth import (
    BINANCE,
    SYMBOL,
    VENUES,
    WANTED,
    Binance,
    Bybit,
    Futures,
    Market,
    Spot,
    Venue,
    is_true,
    raw,
    synced,
)

# A book is synchronised before the first of the faults, and has room to become so after the last.
OPENING, FAULTY, ENDING = 8, 60, 12
MESSAGES = OPENING + FAULTY + ENDING


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(MESSAGES)


class Run:
    """A book that is fed by its venue's messages in some order, and is given what it wants
    `delay` messages later; a snapshot over REST is as of the newest message then but `age`."""

    def __init__(self, venue: Venue, *, delay: int = 2, age: int = 0) -> None:
        self.venue, self.delay, self.age = venue, delay, age
        self.book = venue.book()
        self.states = venue.states()
        self.served = self.losses = 0
        self.newest = -1
        self._asked: tuple[int, Callable[[KeptBook], object]] | None = None
        self._number = 0

    def feed(self, number: int) -> None:
        was_synced = self.book.is_synced
        self.venue.take(self.book, self.venue.message(number))
        self.newest = max(self.newest, number)
        self.losses += was_synced and not self.book.is_synced
        self._look()
        self._number += 1
        if self._asked is not None and self._number >= self._asked[0]:
            answer = self._asked[1]
            if self.book.want is Want.RESUBSCRIBE:
                # It comes among the messages, after the newest of them.
                answer = self.venue.remedy(self.newest)
            answer(self.book)
            self._asked = None
            self._look()
        elif self._asked is None and self.book.want in WANTED:
            answer = self.venue.remedy(max(self.newest - self.age, 0))
            self._asked = self._number + self.delay, answer

    def _look(self) -> None:
        if self.book.is_synced:
            self.served += is_true(self.book, self.states)
        else:
            assert self.book.view(10) is None
            assert self.book.reason
            assert self.book.want is not Want.NOTHING


@pytest.mark.parametrize("venue_class", VENUES)
@pytest.mark.parametrize(("delay", "age"), [(1, 0), (2, 0), (3, 1)])
def test_a_whole_run_is_served_and_true(venue_class, delay, age, market):
    run = Run(venue_class(market), delay=delay, age=age)
    for number in range(MESSAGES):
        run.feed(number)
    assert run.book.is_synced
    assert run.served >= MESSAGES - 8
    assert (run.book.gaps, run.book.crossings, run.book.resyncs, run.losses) == (0, 0, 0, 0)
    assert run.book.messages == MESSAGES
    assert run.book.sequence == run.venue.last_id(MESSAGES - 1)


def with_fault(fault: str, position: int) -> tuple[list[int], int]:
    """The messages in the order they arrive in, and which arrival has to show the fault."""
    numbers = list(range(MESSAGES))
    if fault == "dropped":
        del numbers[position]
    elif fault == "doubled":
        numbers.insert(position, position)
        return numbers, position + 1
    else:
        numbers[position : position + 2] = [position + 1, position]
    return numbers, position


@pytest.mark.parametrize("venue_class", VENUES)
@pytest.mark.parametrize("fault", ["dropped", "doubled", "swapped"])
@pytest.mark.parametrize("delay", [1, 2, 3])
def test_every_single_fault_is_noticed_at_once_and_mended(venue_class, fault, delay, market):
    venue = venue_class(market)
    for position in range(OPENING, OPENING + FAULTY):
        numbers, shows = with_fault(fault, position)
        run = Run(venue, delay=delay)
        for arrival, number in enumerate(numbers):
            was_synced = run.book.is_synced
            run.feed(number)
            if arrival == shows:
                assert was_synced
                assert not run.book.is_synced
                assert run.book.gaps == run.losses == 1
                assert "does not follow" in run.book.reason
        assert run.book.is_synced
        assert (run.losses, run.book.resyncs) == (1, 1)
        assert run.book.sequence == venue.last_id(MESSAGES - 1)
        assert run.served >= MESSAGES - 20
        assert is_true(run.book, run.states)


@pytest.mark.parametrize("venue_class", VENUES)
@pytest.mark.parametrize("fault", ["dropped", "doubled", "swapped"])
def test_a_fault_before_the_book_is_there_is_no_danger_either(venue_class, fault, market):
    for position in range(OPENING):
        run = Run(venue_class(market))
        for number in with_fault(fault, position)[0]:
            run.feed(number)
        assert run.book.is_synced
        assert is_true(run.book, run.states)
        assert run.served >= MESSAGES - 20


@pytest.mark.parametrize("venue_class", BINANCE)
def test_a_snapshot_that_is_older_than_the_messages_is_not_enough(venue_class, market):
    venue = venue_class(market)
    book = venue.book()
    assert book.want is Want.WAIT
    for number in (7, 8, 9):
        assert venue.take(book, venue.message(number)) == (number == 7)
    # Without the ids of message 6, whatever a snapshot from before it says, a change is missing.
    for number in range(6):
        assert not book.take_snapshot(venue.snapshot(number))
        assert (book.want, book.is_synced) == (Want.SNAPSHOT, False)
    assert book.take_snapshot(venue.snapshot(7 if venue_class is Futures else 6))
    assert is_true(book, venue.states())


def test_the_markets_join_a_snapshot_by_different_rules(market):
    spot, futures = Spot(market), Futures(market)
    for venue, joins in ((spot, True), (futures, False)):
        book = venue.book()
        venue.take(book, venue.message(5))
        # The snapshot ends where the diff begins: U = L + 1.
        event = venue.event(5)
        at = event["U"] - 1
        snapshot = msgspec.structs.replace(venue.snapshot(4), sequence=at)
        assert book.take_snapshot(snapshot) is joins
    inside = msgspec.structs.replace(futures.snapshot(4), sequence=futures.event(5)["U"])
    book = futures.book()
    futures.take(book, futures.message(5))
    assert book.take_snapshot(inside)


@pytest.mark.parametrize("venue_class", BINANCE)
def test_a_snapshot_that_is_newer_than_the_messages_waits_for_them(venue_class, market):
    venue = venue_class(market)
    book = venue.book()
    assert not book.take_snapshot(venue.snapshot(5))
    for number in range(2, 5):
        assert not venue.take(book, venue.message(number))
        assert (book.is_synced, book.want) == (False, Want.WAIT)
    joined_by = 5 if venue_class is Futures else 6
    for number in range(5, joined_by + 1):
        assert venue.take(book, venue.message(number)) == (number == joined_by)
    assert is_true(book, venue.states())


@pytest.mark.parametrize("venue_class", BINANCE)
def test_a_snapshot_that_stays_newer_is_given_up(venue_class, market):
    venue = venue_class(market)
    book = venue.book()
    venue.take(book, venue.message(0))
    absurd = msgspec.structs.replace(venue.snapshot(5), sequence=2**60)
    assert not book.take_snapshot(absurd)
    for number in range(1, 40):
        venue.take(book, venue.message(number))
    assert book.want is Want.SNAPSHOT
    assert book.take_snapshot(venue.snapshot(30))
    assert is_true(book, venue.states())


@pytest.mark.parametrize("venue_class", BINANCE)
def test_what_is_buffered_has_a_bound(venue_class):
    venue = venue_class(Market(700, levels=10))
    book = venue.book()
    for number in range(700):
        venue.take(book, venue.message(number))
    assert not book.take_snapshot(venue.snapshot(390))
    assert book.want is Want.SNAPSHOT
    assert book.take_snapshot(venue.snapshot(410))
    assert is_true(book, venue.states())


@pytest.mark.parametrize("venue_class", VENUES)
def test_a_crossed_book_is_withheld_and_wants_to_be_made_anew(venue_class, market):
    venue = venue_class(market)
    book = synced(venue, 10)
    bids, asks = venue.market.changes[11]
    best_ask = min(market.states[10][1])
    venue.market.changes[11] = bids | {best_ask: 1.0}, asks
    try:
        asks.pop(best_ask, None)
        assert venue.take(book, venue.message(11))
    finally:
        venue.market.changes[11] = bids, asks
    assert (book.is_synced, book.crossings, book.gaps) == (False, 1, 0)
    assert "crossed" in book.reason
    assert book.view(5) is None
    if isinstance(venue, Binance):
        assert book.want is Want.WAIT
        assert venue.take(book, venue.message(12))
        assert book.want is Want.SNAPSHOT
        venue.take(book, venue.message(13))
        assert book.take_snapshot(venue.snapshot(12))
    else:
        assert book.want is Want.RESUBSCRIBE
        venue.remedy(13)(book)
    assert is_true(book, venue.states())
    assert book.resyncs == 1


@pytest.mark.parametrize("venue_class", BINANCE)
def test_a_crossed_snapshot_makes_no_book(venue_class, market):
    venue = venue_class(market)
    good = venue.snapshot(2)
    crossed = (Level(good.asks[-1].price, 1.0), *good.bids)
    book = venue.book()
    for number in range(1, 4):
        venue.take(book, venue.message(number))
    assert not book.take_snapshot(msgspec.structs.replace(good, bids=crossed))
    assert (book.is_synced, book.crossings) == (False, 1)
    venue.take(book, venue.message(4))
    assert book.want is Want.SNAPSHOT


@pytest.mark.parametrize("kind", ["snapshot", "delta"])
def test_a_book_without_a_side_is_not_served(kind):
    venue = Bybit(Market(3, levels=3))
    book = synced(venue, 1)
    bids, asks = venue.market.states[1]
    gone = {} if kind == "snapshot" else dict.fromkeys(asks, 0.0)
    venue.market.states[2], venue.market.changes[2] = (bids, gone), ({}, gone)
    assert venue.take(book, venue.message(2, kind))
    assert (book.is_synced, book.want) == (False, Want.RESUBSCRIBE)
    assert "side" in book.reason


@pytest.mark.parametrize("venue_class", VENUES)
def test_the_message_of_another_symbol_changes_nothing_but_its_count(venue_class, market):
    venue = venue_class(market)
    book = synced(venue, 10)
    before = book.view(100)
    alien = venue.message(11).replace(b'"s": "BTCUSDT"', b'"s": "ETHUSDT"')
    with pytest.raises(ValueError, match="ETHUSDT"):
        venue.take(book, alien)
    assert book.view(100) == before
    assert book.malformed == 1
    venue.take(book, venue.message(11))
    assert is_true(book, venue.states())


@pytest.mark.parametrize("venue_class", VENUES)
def test_the_snapshot_of_another_book_is_an_error(venue_class, market):
    venue = venue_class(market)
    book = synced(venue, 10)
    alien = msgspec.structs.replace(venue.snapshot(9), symbol="ETHUSDT")
    with pytest.raises(ValueError, match="ETHUSDT"):
        book.take_snapshot(alien)
    with pytest.raises(ValueError, match="ETHUSDT"):
        book.check_against(alien)
    assert is_true(book, venue.states())


ABSURD = ["-1", "0", "nan", "NaN", "inf", "-Infinity", "1e999", "1e300", "", "1,5", "0x10", "one"]


@pytest.mark.parametrize("price", ABSURD)
def test_an_impossible_price_fails_the_message_while_it_is_read(price):
    for levels in ([[price, "1"]], [["1", "1"], [price, "1"]]):
        diff = {"E": 1, "s": SYMBOL, "U": 1, "u": 2, "pu": 0, "b": levels, "a": []}
        change = {"s": SYMBOL, "b": [], "a": levels, "u": 5, "seq": 9}
        with pytest.raises(msgspec.MsgspecError):
            decode_futures(raw({"stream": "btcusdt@depth@100ms", "data": diff}))
        with pytest.raises(msgspec.MsgspecError):
            decode_spot(raw({"stream": "btcusdt@depth@100ms", "data": diff}))
        with pytest.raises(msgspec.MsgspecError):
            decode_book(raw({"topic": "t", "type": "delta", "ts": 1, "data": change}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"b": [["1", "-1"]]},
        {"b": [["1", "nan"]]},
        {"b": [["1"]]},
        {"b": [["1", "1", "1"]]},
        {"b": None},
        {"u": -1},
        {"u": 2**63},
        {"u": 1.5},
        {"E": 9e15},
        {"s": 7},
    ],
)
def test_other_impossible_fields_fail_the_message_too(wrong):
    diff = {"E": 1, "s": SYMBOL, "U": 1, "u": 2, "pu": 0, "b": [["1", "1"]], "a": []}
    decode_futures(raw({"stream": "s", "data": diff | {"tomorrow": "'s field"}}))
    with pytest.raises(msgspec.MsgspecError):
        decode_futures(raw({"stream": "s", "data": diff | wrong}))


def test_a_restarted_service_replaces_the_book(market):
    venue = Bybit(market)
    book = synced(venue, 10)
    bids, asks = market.states[20]
    data = {
        "s": SYMBOL,
        "b": [[str(price), str(size)] for price, size in bids.items()],
        "a": [[str(price), str(size)] for price, size in asks.items()],
        "u": 1,
        "seq": 2,
    }
    message = {"topic": f"orderbook.200.{SYMBOL}", "type": "delta", "ts": 1, "data": data}
    assert not venue.take(book, raw(message))
    assert is_true(book, {1: (bids, asks)})
    follows = message | {"data": data | {"u": 2, "b": [["1", "1"]], "a": []}}
    venue.take(book, raw(follows))
    assert (book.sequence, book.is_synced, book.gaps) == (2, True, 0)


def test_a_topic_that_does_not_open_with_a_snapshot_is_asked_for_again(market):
    venue = Bybit(market)
    book = venue.book()
    assert book.want is Want.WAIT
    assert venue.take(book, venue.message(3))
    assert (book.want, book.is_synced) == (Want.RESUBSCRIBE, False)
    assert not venue.take(book, venue.message(4))
    assert not book.take_snapshot(venue.snapshot(4))
    venue.remedy(5)(book)
    assert is_true(book, venue.states())


@pytest.mark.parametrize("venue_class", VENUES)
def test_a_withheld_book_serves_nothing_until_it_is_made_anew(venue_class, market):
    venue = venue_class(market)
    book = synced(venue, 10)
    book.withhold("silent for a minute")
    assert (book.is_synced, book.reason) == (False, "silent for a minute")
    assert book.view(5) is None
    for number in range(11, 15):
        venue.take(book, venue.message(number))
    assert not book.is_synced
    venue.remedy(14)(book)
    venue.take(book, venue.message(15)) if venue_class is Spot else None
    assert is_true(book, venue.states())
    assert book.resyncs == 1
