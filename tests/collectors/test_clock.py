"""Market time is a straight line through the anchor, and bars lie on the UTC grid."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.clock import MarketClock
from collectors.marketdata import (
    TIMEFRAMES,
    duration,
    floor_time,
    from_ms,
    last_closed,
    to_ms,
)

MOMENTS = st.datetimes(
    min_value=datetime(2015, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
    max_value=datetime(2035, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(start=MOMENTS, anchor=MOMENTS, seconds=st.integers(0, 10**6), speed=st.integers(1, 10_000))
def test_market_and_wall_are_inverse(
    start: datetime, anchor: datetime, seconds: int, speed: int
) -> None:
    clock = MarketClock(start=start, anchor=anchor, speed=speed)
    wall = anchor + timedelta(seconds=seconds)
    assert clock.market(wall) == start + timedelta(seconds=seconds * speed)
    assert abs(clock.wall(clock.market(wall)) - wall) <= timedelta(microseconds=1)


def test_without_a_start_market_time_is_wall_time() -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    assert MarketClock().market(moment) == moment


def test_bounds_are_widened_by_five_wall_seconds() -> None:
    assert MarketClock().widen(timedelta(seconds=30)) == timedelta(seconds=35)
    fast = MarketClock(
        start=datetime(2021, 1, 1, tzinfo=UTC), anchor=datetime(2024, 1, 1, tzinfo=UTC), speed=3600
    )
    assert fast.widen(timedelta(seconds=30)) == timedelta(hours=5, seconds=30)


@given(moment=MOMENTS, timeframe=st.sampled_from(sorted(TIMEFRAMES)))
def test_the_last_closed_bar_is_closed_and_the_newest(moment: datetime, timeframe: str) -> None:
    step = duration(timeframe)
    opened = floor_time(moment, timeframe)
    assert opened <= moment < opened + step
    closed = last_closed(moment, timeframe)
    assert closed + step <= moment < closed + 2 * step


@given(moment=MOMENTS)
def test_milliseconds_are_exact(moment: datetime) -> None:
    whole = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert from_ms(to_ms(whole)) == whole


def test_an_unknown_timeframe_is_named() -> None:
    with pytest.raises(ValueError, match="'7h'"):
        duration("7h")
