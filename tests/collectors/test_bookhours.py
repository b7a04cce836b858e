"""Hours of books: weighted by time, split at the hour, and not counting what nobody saw."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.bookhours import BookHours, BookState, HourPart

TOP = datetime(2025, 3, 3, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def after(seconds: float) -> datetime:
    return TOP + timedelta(seconds=seconds)


def add_up(
    states: list[tuple[float, BookState]], *, until: float, longest: timedelta = HOUR
) -> list[HourPart]:
    hours = BookHours(longest=longest)
    for seconds, state in states:
        hours.note("binance", "BTCUSDT", after(seconds), state)
    return sorted(hours.take(after(until)), key=lambda part: part.hour)


def test_a_state_counts_for_as_long_as_it_lasts() -> None:
    (part,) = add_up(
        [
            (0, BookState(True, 1.0, (10.0, 20.0))),
            (10, BookState(True, 4.0)),
            (12, BookState(False)),
        ],
        until=15,
    )
    assert (part.hour, part.synced_s, part.withheld_s) == (TOP, 12.0, 3.0)
    assert (part.spread, part.spread_min, part.spread_max) == (18.0, 1.0, 4.0)
    assert (part.depth_10_bps.bid, part.depth_10_bps.ask, part.depth_10_bps.seconds) == (
        100.0, 200.0, 10.0,
    )  # fmt: skip
    assert part.depth_50_bps.seconds == 0.0


def test_a_state_that_lasts_into_the_next_hours_counts_in_each() -> None:
    parts = add_up([(3500, BookState(True, 2.0))], until=3600 * 2 + 50, longest=2 * HOUR)
    assert [(part.hour, part.synced_s, part.spread) for part in parts] == [
        (TOP, 100.0, 200.0), (TOP + HOUR, 3600.0, 7200.0), (TOP + 2 * HOUR, 50.0, 100.0),
    ]  # fmt: skip
    assert {(part.spread_min, part.spread_max) for part in parts} == {(2.0, 2.0)}


def test_a_spread_that_lasted_no_time_is_still_the_widest() -> None:
    (part,) = add_up(
        [(0, BookState(True, 1.0)), (5, BookState(True, 99.0)), (5, BookState(False))], until=6
    )
    assert (part.spread_max, part.spread) == (99.0, 5.0)


def test_a_book_with_an_empty_side_counts_as_withheld() -> None:
    (part,) = add_up([(0, BookState(True, None))], until=7)
    assert (part.synced_s, part.withheld_s, part.spread_min) == (0.0, 7.0, None)


def test_running_totals_are_counted_by_what_they_grow() -> None:
    hours = BookHours(longest=HOUR)
    hours.note("binance", "BTCUSDT", TOP, BookState(True, 1.0, messages=5, gaps=1))
    hours.note("binance", "BTCUSDT", after(1), BookState(True, 1.0, messages=9, gaps=1))
    (part,) = hours.take(after(2))
    assert (part.messages, part.gaps, part.resyncs) == (9, 1, 0)
    hours.note("binance", "BTCUSDT", after(3), BookState(True, 1.0, messages=10, gaps=2, resyncs=1))
    hours.note("binance", "BTCUSDT", after(4), BookState(True, 1.0, messages=3))  # a new book
    (part,) = hours.take(after(5))
    assert (part.messages, part.gaps, part.resyncs) == (4, 1, 1)


def test_what_was_not_looked_at_for_too_long_is_not_known() -> None:
    state = BookState(True, 1.0)
    (part,) = add_up(
        [(0, state), (60, state), (61, state)], until=62, longest=timedelta(seconds=30)
    )
    assert part.synced_s == 2.0


def test_a_clock_that_is_set_back_counts_nothing() -> None:
    (part,) = add_up([(100, BookState(True, 1.0)), (50, BookState(True, 1.0))], until=60)
    assert part.synced_s == 10.0


def test_a_book_that_is_not_followed_any_more_stops_counting() -> None:
    hours = BookHours(longest=HOUR)
    hours.note("binance", "BTCUSDT", TOP, BookState(True, 1.0))
    hours.drop("binance", "BTCUSDT", after(5))
    (part,) = hours.take(after(100))
    assert part.synced_s == 5.0
    assert hours.take(after(200)) == []


STATES = st.builds(
    BookState,
    st.booleans(),
    st.floats(-5, 50),
    st.none() | st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9000), STATES), min_size=1, max_size=20),
    st.lists(st.integers(0, 9000), max_size=5),
)
def test_parts_taken_at_any_time_add_up_to_the_whole(
    told: list[tuple[int, BookState]], looks: list[int]
) -> None:
    told = sorted(told, key=lambda item: item[0])
    whole = add_up([*told], until=9000, longest=4 * HOUR)
    hours = BookHours(longest=4 * HOUR)
    parts: list[HourPart] = []
    events = [(at, 1, state) for at, state in told] + [(at, 0, None) for at in looks]
    for at, _, state in sorted(events, key=lambda item: item[:2]):
        if state is None:
            parts += hours.take(after(at))
        else:
            hours.note("binance", "BTCUSDT", after(at), state)
    parts += hours.take(after(9000))
    assert sum(part.synced_s + part.withheld_s for part in parts) == pytest.approx(
        9000 - told[0][0]
    )
    for expected in whole:
        mine = [part for part in parts if part.hour == expected.hour]
        together = mine[0]
        for part in mine[1:]:
            together.include(part)
        for name in ("synced_s", "withheld_s", "spread"):
            assert getattr(together, name) == pytest.approx(getattr(expected, name), abs=1e-6)
        assert (together.spread_min, together.spread_max) == (
            expected.spread_min,
            expected.spread_max,
        )
        assert together.depth_10_bps.seconds == pytest.approx(expected.depth_10_bps.seconds)
        assert together.depth_10_bps.bid == pytest.approx(expected.depth_10_bps.bid)
