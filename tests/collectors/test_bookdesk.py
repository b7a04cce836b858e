"""What is said of followed books: values, reasons, downtimes, whatever their connections do."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from collectors.bookdesk import BookDesk
from collectors.bookhours import Downtime
from collectors.clock import MarketClock
from collectors.exchanges.bybit.books import BookChange, BookMessage, BybitBook
from collectors.feeds import PublicTrade
from collectors.livebook import LiveBook, is_silent, judge
from collectors.marketdata import Quote, to_ms
from collectors.tape import TapeReader
from collectors.venues import DayTicker

AT = datetime(2025, 3, 3, 9, tzinfo=UTC)
KEY = ("bybit", "BTCUSDT")
WALL = MarketClock()


class Desk:
    """A desk that follows one book, and what it has said of downtimes."""

    def __init__(self, market: MarketClock = WALL) -> None:
        self.downtimes: list[Downtime] = []
        self.desk = BookDesk(on_downtime=self.downtimes.append, market=market)
        self.desk.follow({KEY}, AT)

    def said(self, at: datetime) -> LiveBook | None:
        found = self.desk.due(at)
        assert len(found) <= 1
        return found[0] if found else None


@pytest.fixture
def desk() -> Desk:
    return Desk()


def message(number: int, bid: float = 100.0, *, at: datetime = AT) -> BookMessage:
    change = BookChange(s="BTCUSDT", b=[(bid, 2.0)], a=[], u=number, seq=number)
    return BookMessage(topic="orderbook.200.BTCUSDT", type="delta", ts=to_ms(at), data=change)


def snapshot(number: int, *, at: datetime = AT) -> BookMessage:
    bids = [(100 - rank / 10, 2.0) for rank in range(60)]
    asks = [(100.1 + rank / 10, 1.0) for rank in range(60)]
    change = BookChange(s="BTCUSDT", b=bids, a=asks, u=number, seq=number)
    return BookMessage(topic="orderbook.200.BTCUSDT", type="snapshot", ts=to_ms(at), data=change)


def opened(number: int = 10, *, at: datetime = AT, late_ms: int = 40) -> BybitBook:
    book = BybitBook(*KEY)
    book.take(snapshot(number, at=at))
    book.received_at = at + timedelta(milliseconds=late_ms)
    return book


def quote(sequence: int, bid: float, at: datetime = AT) -> Quote:
    return Quote(
        exchange=KEY[0], symbol=KEY[1], best_bid=bid, bid_quantity=2.0, best_ask=bid + 0.1,
        ask_quantity=1.0, event_time=at, received_at=at, sequence=sequence,
    )  # fmt: skip


def test_a_book_is_withheld_from_the_moment_it_is_followed_until_it_is_in_step(desk: Desk) -> None:
    value = desk.said(AT)
    assert value is not None
    assert (value.is_synced, value.best_bid, value.reason) == (False, None, "not connected")
    desk.desk.take_book(opened(), AT + timedelta(seconds=2))
    value = desk.said(AT + timedelta(seconds=2))
    assert value is not None and value.is_synced
    assert (value.best_bid, value.best_ask, value.sequence) == (100.0, 100.1, 10)
    assert value.health.withheld_s == 2 and value.health.resyncs == 0
    assert value.health.latency_ms == 40
    assert value.imbalance == pytest.approx((100 - 50) / 150)
    began, ended = desk.downtimes
    assert began == (*KEY, AT, None, "not yet synchronised")
    assert ended == began._replace(ended_at=AT + timedelta(seconds=2))


def test_what_does_not_move_is_said_again_now_and_then_only(desk: Desk) -> None:
    book = opened()
    desk.desk.take_book(book, AT)
    assert desk.said(AT) is not None
    assert desk.said(AT + timedelta(seconds=4)) is None
    assert desk.said(AT + timedelta(seconds=5)) is not None
    book.take(message(11, 100.05))
    value = desk.said(AT + timedelta(seconds=5, milliseconds=100))
    assert value is not None and value.best_bid == 100.05


def test_a_withheld_book_says_why_and_the_best_prices_stand_in(desk: Desk) -> None:
    book = opened()
    desk.desk.take_book(book, AT)
    desk.desk.take_top(quote(900, 99.0))
    value = desk.said(AT)
    assert value is not None and value.best_bid == 100.0  # in step, the book speaks for itself
    book.take(message(12))
    desk.desk.take_book(book, AT + timedelta(seconds=1))
    value = desk.said(AT + timedelta(seconds=1))
    assert value is not None and not value.is_synced
    assert (value.bids, value.asks, value.imbalance) == ((), (), None)
    assert (value.best_bid, value.sequence) == (99.0, 900)
    assert value.reason == "update 12 does not follow 10"
    assert value.health.gaps == 1 and value.health.synced_since is None
    desk.desk.take_top(quote(901, 98.0))
    value = desk.said(AT + timedelta(seconds=2))
    assert value is not None and value.best_bid == 98.0
    assert value.health.withheld_s == 1


def test_counts_outlive_connections(desk: Desk) -> None:
    book = opened()
    desk.desk.take_book(book, AT)
    book.take(message(12))
    desk.desk.take_book(book, AT)
    other = opened(50)
    desk.desk.take_book(other, AT + timedelta(seconds=3))
    other.take(message(52))
    desk.desk.take_book(other, AT + timedelta(seconds=4))
    other.take(snapshot(60))
    desk.desk.take_book(other, AT + timedelta(seconds=6))
    value = desk.said(AT + timedelta(seconds=7))
    assert value is not None
    assert (value.health.gaps, value.health.resyncs, value.health.withheld_s) == (2, 2, 5)
    assert [down.ended_at is None for down in desk.downtimes] == [True, False] * 3


def test_a_quiet_book_is_as_fresh_as_its_venue(desk: Desk) -> None:
    desk.desk.take_book(opened(), AT)
    later = AT + timedelta(minutes=1)
    desk.desk.take_top(quote(900, 100.0, later))
    value = desk.said(later)
    assert value is not None and value.is_synced
    assert value.received_at == later and value.event_time == AT


def test_a_book_that_its_venue_contradicts_grows_old(desk: Desk) -> None:
    """As when its own messages have stopped and the best prices move on."""
    desk.desk.take_book(opened(), AT)
    later = AT + timedelta(minutes=1)
    desk.desk.take_top(quote(900, 90.0, later))
    value = desk.said(later)
    assert value is not None and value.best_bid == 100.0
    assert value.received_at == AT + timedelta(milliseconds=40)
    assert is_silent(value, now=later)


def test_what_nobody_heard_is_said_again_at_once(desk: Desk) -> None:
    desk.desk.take_book(opened(), AT)
    assert desk.said(AT) is not None
    assert desk.said(AT) is None
    desk.desk.say_again([KEY, ("bybit", "UNKNOWN")])
    assert desk.said(AT) is not None
    assert desk.said(AT) is None


def test_a_clock_that_is_set_back_silences_nothing(desk: Desk) -> None:
    book = opened()
    desk.desk.take_book(book, AT)
    assert desk.said(AT) is not None
    earlier = AT - timedelta(hours=1)
    assert desk.said(earlier) is not None
    book.take(message(12))
    desk.desk.take_book(book, earlier)
    desk.desk.take_book(opened(20), earlier - timedelta(minutes=1))
    assert desk.downtimes[-1].ended_at == desk.downtimes[-1].began_at
    value = desk.said(earlier)
    assert value is not None and value.health.withheld_s == 0 and value.health.messages_per_s == 0


def test_latency_is_told_only_where_the_clocks_run_alike() -> None:
    desk = Desk(MarketClock(start=AT, anchor=AT, speed=2.0))
    desk.desk.take_book(opened(), AT)
    value = desk.said(AT)
    assert value is not None and value.health.latency_ms is None


def test_latency_is_measured_in_the_time_of_the_venues_stamps() -> None:
    now = AT + timedelta(days=628)
    desk = Desk(MarketClock(start=AT, anchor=now))
    book = opened()
    book.received_at = now + timedelta(milliseconds=70)
    desk.desk.take_book(book, now)
    value = desk.said(now)
    assert value is not None and value.health.latency_ms == 70


def test_a_venue_whose_clock_is_ahead_is_believed(desk: Desk) -> None:
    desk.desk.take_book(opened(late_ms=-250), AT)
    value = desk.said(AT)
    assert value is not None and value.is_synced and value.health.latency_ms == -250


def test_what_is_not_followed_any_more_is_dropped_and_its_downtime_ends(desk: Desk) -> None:
    assert desk.desk.follow((), AT + timedelta(seconds=9)) == [KEY]
    assert desk.downtimes[-1].ended_at == AT + timedelta(seconds=9)
    desk.desk.take_book(opened(), AT)
    desk.desk.take_top(quote(1, 100.0))
    assert desk.said(AT + timedelta(seconds=10)) is None


def trade(number: int, side: str, quantity: float) -> PublicTrade:
    return PublicTrade(
        exchange=KEY[0], symbol=KEY[1], trade_id=str(number), price=100.0 + number,
        quantity=quantity, side=side, traded_at=AT,
    )  # fmt: skip


def test_the_tape_sums_up_the_last_minute() -> None:
    reader = TapeReader(*KEY)
    assert not reader.is_new and reader.tape(0.0, wall=AT).last_price is None
    reader.take_trade(trade(1, "buy", 5.0), 0.0)
    reader.take_trade(trade(2, "sell", 1.0), 30.0)
    reader.take_trade(trade(3, "buy", 2.0), 59.0)
    tape = reader.tape(60.0, wall=AT)
    assert (tape.bought, tape.sold, tape.trades, tape.last_price) == (7.0, 1.0, 3, 103.0)
    assert (tape.last_side, tape.window_s) == ("buy", 60.0)
    tape = reader.tape(61.0, wall=AT)
    assert (tape.bought, tape.trades) == (2.0, 2)
    day = DayTicker(
        exchange=KEY[0], symbol=KEY[1], last_price=1.0, open=1.0, high=1.0, low=1.0, volume=1.0,
        turnover=1.0,
    )  # fmt: skip
    reader.take_day(day)
    assert reader.is_new and reader.tape(61.5, wall=AT).day == day
    assert reader.is_new  # a minute that passes changes the flow too
    last = reader.tape(200.0, wall=AT)
    assert (last.trades, last.bought, last.at) == (0, 0.0, AT) and not reader.is_new


def test_a_tape_that_overflows_says_how_far_it_reaches() -> None:
    reader = TapeReader(*KEY)
    for number in range(5000):
        reader.take_trade(trade(number, "buy", 1.0), number / 100)
    tape = reader.tape(50.0, wall=AT)
    assert tape.trades == 2000 and tape.bought == 2000
    assert tape.window_s == pytest.approx(20.0, abs=0.02)


def test_a_book_that_nobody_stands_by_any_more_is_not_believed(desk: Desk) -> None:
    """Its stream process was killed: nobody took the value back."""
    desk.desk.take_book(opened(), AT)
    value = desk.said(AT)
    assert value is not None and value.said_at == AT
    stored = msgspec.json.encode(value)
    names = {"exchange": KEY[0], "symbol": KEY[1]}
    assert judge(stored, now=AT + timedelta(seconds=12), **names).is_synced
    told = judge(stored, now=AT + timedelta(seconds=13), **names)
    assert (told.is_synced, told.best_bid, told.bids) == (False, None, ())
    assert told.reason == "its stream process has said nothing for more than 12 s"
