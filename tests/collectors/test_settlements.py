"""Settlements as the stream shows them: each once, by its funding time, with the rate before it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.feeds import MarkPrice
from collectors.settlements import CLOSE_ENOUGH, SeenSettlement, SettlementTracker

T = datetime(2025, 3, 3, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOW = T + 30 * HOUR


def mark(
    seconds: float, coming: datetime, rate: float = 1e-4, symbol: str = "BTCUSDT"
) -> MarkPrice:
    """A message stamped so many seconds after T."""
    at = T + timedelta(seconds=seconds)
    return MarkPrice(
        exchange="binance",
        symbol=symbol,
        mark_price=100.0 + seconds,
        index_price=None,
        funding_rate=rate,
        next_funding_time=coming,
        event_time=at,
        received_at=at,
    )


def seen(
    *marks: MarkPrice, tracker: SettlementTracker | None = None, now: datetime = NOW
) -> list[SeenSettlement]:
    tracker = tracker or SettlementTracker(close_enough=CLOSE_ENOUGH)
    found = [tracker.note(item, now=now) for item in marks]
    return [item for item in found if item is not None]


def test_the_rate_is_the_last_one_before_the_funding_time() -> None:
    # At T the rate is the next period's already, while T itself is still named for a second.
    (one,) = seen(
        mark(-2, T, 1e-4), mark(-1, T, 2e-4), mark(0, T, 9e-4), mark(0.9, T, 9e-4),
        mark(1, T + 8 * HOUR, 9e-4), mark(2, T + 8 * HOUR, 9e-4),
    )  # fmt: skip
    assert (one.exchange, one.symbol, one.funding_time) == ("binance", "BTCUSDT", T)
    assert (one.rate, one.mark_price, one.interval_hours) == (2e-4, 99.0, None)


def test_a_rate_that_was_not_seen_shortly_before_is_left_to_the_history() -> None:
    after = mark(1, T + 8 * HOUR)
    assert seen(mark(-5.1, T), after) == []
    assert len(seen(mark(-5, T), after)) == 1
    assert seen(mark(0, T), after) == []  # began to listen at T
    assert seen(after) == []
    wide = SettlementTracker(close_enough=HOUR)
    assert len(seen(mark(-3000, T), mark(2000, T + 8 * HOUR), tracker=wide)) == 1


def test_the_interval_is_known_after_the_settlement_before_was_seen() -> None:
    tracker = SettlementTracker(close_enough=CLOSE_ENOUGH)
    hours = [seen(mark(-1, T), mark(1, T + 8 * HOUR), tracker=tracker)]
    second = 8 * 3600
    hours.append(
        seen(mark(second - 1, T + 8 * HOUR), mark(second + 1, T + 9 * HOUR), tracker=tracker)
    )
    third = 9 * 3600  # the interval has become an hour
    hours.append(
        seen(mark(third - 1, T + 9 * HOUR), mark(third + 1, T + 10 * HOUR), tracker=tracker)
    )
    assert [found[0].interval_hours for found in hours] == [None, 8.0, 1.0]
    # Nothing was heard for four hours: what comes before the next one is not known.
    late = 14 * 3600 + 1800
    assert seen(mark(late, T + 15 * HOUR), tracker=tracker) == []
    at = 15 * 3600
    (one,) = seen(mark(at - 1, T + 15 * HOUR), mark(at + 1, T + 16 * HOUR), tracker=tracker)
    assert (one.funding_time, one.interval_hours) == (T + 15 * HOUR, None)


def test_a_settlement_seen_to_be_over_much_later_is_none_that_the_next_follows() -> None:
    tracker = SettlementTracker(close_enough=CLOSE_ENOUGH)
    (one,) = seen(mark(-1, T), mark(3 * 3600, T + 4 * HOUR), tracker=tracker)
    assert one.funding_time == T
    at = 4 * 3600
    (two,) = seen(mark(at - 1, T + 4 * HOUR), mark(at + 1, T + 5 * HOUR), tracker=tracker)
    assert two.interval_hours is None


def test_a_funding_time_that_is_moved_settles_nothing() -> None:
    tracker = SettlementTracker(close_enough=HOUR)
    # From eight hours to one, half an hour before, and back again.
    assert (
        seen(mark(-1800, T + 7 * HOUR), mark(-1700, T), mark(-1600, T + 7 * HOUR), tracker=tracker)
        == []
    )
    assert seen(mark(1, T + 7 * HOUR), tracker=tracker) == []
    assert len(
        seen(mark(7 * 3600 - 1, T + 7 * HOUR), mark(7 * 3600, T + 8 * HOUR), tracker=tracker)
    )


def test_the_milliseconds_of_a_funding_time_may_wander() -> None:
    (one,) = seen(
        mark(-2, T + timedelta(milliseconds=3)), mark(-1, T), mark(1, T + 8 * HOUR), mark(2, T)
    )
    assert (one.funding_time, one.mark_price) == (T, 99.0)


def test_symbols_are_told_apart() -> None:
    found = seen(
        mark(-1, T, 1e-4), mark(-1, T, 3e-4, "ETHUSDT"), mark(1, T + 8 * HOUR, symbol="ETHUSDT")
    )
    assert [(item.symbol, item.rate) for item in found] == [("ETHUSDT", 3e-4)]


def test_a_message_from_the_far_future_changes_nothing() -> None:
    now = T + timedelta(seconds=2)
    hostile = mark(10 * 365 * 86400, T + timedelta(days=3650, hours=8))
    far_off = mark(-1.5, T + timedelta(days=365))
    (one,) = seen(mark(-2, T), hostile, far_off, mark(-1, T, 2e-4), mark(1, T + 8 * HOUR), now=now)
    assert one.rate == 2e-4
    # Our own clock may be behind by some minutes.
    assert len(seen(mark(-1, T), mark(1, T + 8 * HOUR), now=T - timedelta(minutes=20))) == 1


# A venue that settles at irregular intervals, and stamps every ten seconds; each settlement's rate
# is told by its time. The old T is still named for a second after it.
TIMES = [T + hours * HOUR for hours in (0, 1, 2, 6, 7)]
PERIOD_S = 2


def truth(seconds: int) -> MarkPrice:
    at = T + timedelta(seconds=seconds)
    coming = next(time for time in TIMES if time > at)
    named = next(time for time in TIMES if time > at - timedelta(seconds=1))
    return mark(seconds, named, rate=coming.hour * 1e-5)


SPAN = range(3600 - 20, 6 * 3600 + 20, PERIOD_S)
NEAR = [s for s in SPAN if min(abs(s - h * 3600) for h in (1, 2, 6)) <= 20]
MESSAGES = [truth(seconds) for seconds in NEAR]
EXPECTED = {time: time.hour * 1e-5 for time in TIMES[1:4]}


@st.composite
def received(draw: st.DrawFn) -> list[MarkPrice]:
    """What arrives of the messages: lost, doubled, and each up to five places late."""
    copies = draw(
        st.lists(st.sampled_from([0, 1, 1, 1, 2, 3]), min_size=len(NEAR), max_size=len(NEAR))
    )
    late = st.integers(0, 5)
    keyed = [
        (number + draw(late), item)
        for number, (item, count) in enumerate(zip(MESSAGES, copies, strict=True))
        for _ in range(count)
    ]
    return [item for _, item in sorted(keyed, key=lambda pair: pair[0])]


@settings(max_examples=300, deadline=None)
@given(received())
def test_each_settlement_once_and_never_a_wrong_one(messages: list[MarkPrice]) -> None:
    found = seen(*messages)
    times = [item.funding_time for item in found]
    assert len(times) == len(set(times))
    assert {item.funding_time: item.rate for item in found}.items() <= EXPECTED.items()
    intervals = {T + HOUR: 1.0, T + 2 * HOUR: 1.0, T + 6 * HOUR: 4.0}
    for item in found:
        assert item.interval_hours in (None, intervals[item.funding_time])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=len(NEAR), max_size=len(NEAR)))
def test_two_overlapping_connections_show_every_settlement_once(lags: list[int]) -> None:
    """The second connection says the same, each message some places later."""
    second = sorted(enumerate(lags), key=lambda pair: pair[0] + pair[1])
    both = [(number, MESSAGES[number]) for number in range(len(NEAR))]
    both += [(number + lag + 0.5, MESSAGES[number]) for number, lag in second]
    found = seen(*(item for _, item in sorted(both, key=lambda pair: pair[0])))
    assert {item.funding_time: item.rate for item in found} == EXPECTED
    assert len(found) == len(EXPECTED)


def test_a_reconnect_across_a_settlement_gives_it_once_or_not_at_all() -> None:
    for lost_from in range(len(MESSAGES)):
        for lost_until in range(lost_from, len(MESSAGES)):
            found = seen(*MESSAGES[:lost_from], *MESSAGES[lost_until:])
            times = [item.funding_time for item in found]
            assert len(times) == len(set(times))
            assert {item.funding_time: item.rate for item in found}.items() <= EXPECTED.items()
    assert len(seen(*MESSAGES)) == len(EXPECTED)
