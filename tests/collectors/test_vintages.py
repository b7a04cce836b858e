"""What was known of a series at a moment: laws over any history of vintages."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.marketdata import from_ms, to_ms
from collectors.releases import CHICAGO, next_release, release_moment
from collectors.vintages import MacroValue, Row, VintageHistory

FIRST = date(2025, 2, 20)  # a change of the hour in Chicago and weekends lie ahead
DAY = timedelta(days=1)
MOMENTS = st.integers(0, 60 * 24 * 60).map(
    lambda minutes: datetime(2025, 2, 18, tzinfo=UTC) + timedelta(minutes=minutes)
)
PUBLISHED = st.lists(
    st.tuples(st.integers(0, 25), st.integers(0, 20), st.floats(-5, 90), st.booleans()),
    max_size=20,
    unique_by=lambda item: item[:2],
)


def vintage(observed: date, published: date, value: float, *, assumed: bool = False) -> Row:
    moment, _ = release_moment(observed, published, is_first=True)
    return to_ms(moment), observed, published, value, assumed


def rows_of(published: list[tuple[int, int, float, bool]]) -> list[Row]:
    return [
        vintage(FIRST + day * DAY, FIRST + (day + delay) * DAY, value, assumed=assumed)
        for day, delay, value, assumed in published
    ]


def naive(rows: list[Row], moment: datetime) -> MacroValue | None:
    """The same by looking at every row, one moment at a time."""
    released = [row for row in rows if row[0] <= to_ms(moment)]
    if not released:
        return None
    newest = max(released, key=lambda row: (row[1], row[2]))
    first = min(row[0] for row in released if row[1] == newest[1])
    own_day, today = (from_ms(at).astimezone(CHICAGO).date() for at in (first, to_ms(moment)))
    return MacroValue(
        value=newest[3],
        date=newest[1],
        released_at=from_ms(newest[0]),
        is_forward_filled=today > own_day,
        is_interpolated=False,
        is_release_assumed=newest[4],
        age_days=(today - newest[1]).days,
    )


@given(published=PUBLISHED, moments=st.lists(MOMENTS, min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_it_agrees_with_a_look_at_every_row(
    published: list[tuple[int, int, float, bool]], moments: list[datetime]
) -> None:
    rows = rows_of(published)
    history = VintageHistory(rows)
    many = history.at_many(np.array([to_ms(moment) for moment in moments], dtype=np.int64))
    for position, moment in enumerate(moments):
        value = history.at(moment)
        assert value == naive(rows, moment)
        assert many.known[position] == (value is not None)
        if value is None:
            assert np.isnan(many.value[position])
            continue
        assert value.released_at <= moment
        assert many.value[position] == value.value
        assert many.date[position] == value.date.toordinal()
        assert many.released_ms[position] == to_ms(value.released_at)
        assert many.is_forward_filled[position] == value.is_forward_filled
        assert many.is_release_assumed[position] == value.is_release_assumed


@given(published=PUBLISHED, at=MOMENTS, days=st.lists(st.integers(-3, 60), min_size=1, max_size=9))
@settings(max_examples=300, deadline=None)
def test_what_is_released_later_changes_nothing_before(
    published: list[tuple[int, int, float, bool]], at: datetime, days: list[int]
) -> None:
    rows = rows_of(published)
    earlier = [row for row in rows if row[0] <= to_ms(at)]
    whole, cut = VintageHistory(rows), VintageHistory(earlier)
    asked = [FIRST + number * DAY for number in days]
    assert whole.at(at) == cut.at(at)
    for interpolate in (False, True):
        values = whole.on_days(asked, as_of_ms=to_ms(at), interpolate=interpolate)
        assert values == cut.on_days(asked, as_of_ms=to_ms(at), interpolate=interpolate)
        known = {row[1] for row in earlier}
        for day, value in zip(asked, values, strict=True):
            if value is None:
                assert not any(observed <= day for observed in known)
                continue
            assert value.released_at <= at
            assert value.date <= day
            is_between = any(observed > day for observed in known) and day not in known
            assert value.is_interpolated == (interpolate and is_between)
            assert value.is_forward_filled == (day not in known and not value.is_interpolated)


FRIDAY, MONDAY = date(2025, 2, 28), date(2025, 3, 3)
WEEKEND = [vintage(FRIDAY, FRIDAY, 20.0), vintage(MONDAY, MONDAY, 23.0)]


@pytest.mark.parametrize(
    ("moment", "expected", "is_forward_filled"),
    [
        ("2025-03-01T05:59", None, False),
        ("2025-03-01T06:00", 20.0, False),
        ("2025-03-02T05:59", 20.0, False),
        ("2025-03-02T06:00", 20.0, True),
        ("2025-03-04T05:59", 20.0, True),
        ("2025-03-04T06:00", 23.0, False),
        ("2025-03-09T12:00", 23.0, True),
    ],
)
def test_a_value_has_one_day_of_its_own_and_is_carried_after_it(
    moment: str, expected: float | None, is_forward_filled: bool
) -> None:
    value = VintageHistory(WEEKEND).at(datetime.fromisoformat(f"{moment}+00:00"))
    assert (value.value if value else None) == expected
    assert (value.is_forward_filled if value else False) == is_forward_filled


def test_a_revision_is_still_the_value_of_its_day() -> None:
    revised = [vintage(FRIDAY, FRIDAY, 20.0), vintage(FRIDAY, date(2025, 3, 5), 21.0)]
    value = VintageHistory(revised).at(datetime(2025, 3, 6, 7, tzinfo=UTC))
    assert value is not None
    assert (value.value, value.is_forward_filled, value.age_days) == (21.0, True, 6)


def test_a_line_is_drawn_between_known_values_only() -> None:
    history = VintageHistory(WEEKEND)
    days = [FRIDAY - DAY, FRIDAY, FRIDAY + DAY, FRIDAY + 2 * DAY, MONDAY, MONDAY + DAY]
    before = to_ms(datetime(2025, 3, 4, 5, 59, tzinfo=UTC))
    values = history.on_days(days, as_of_ms=before, interpolate=True)
    assert [each and each.value for each in values] == [None, 20.0, 20.0, 20.0, 20.0, 20.0]
    assert not any(each.is_interpolated for each in values if each)
    after = before + 60_000
    values = history.on_days(days, as_of_ms=after, interpolate=True)
    assert [each and each.value for each in values] == [None, 20.0, 21.0, 22.0, 23.0, 23.0]
    assert [each.is_interpolated for each in values if each] == [False, True, True, False, False]
    assert [each.is_forward_filled for each in values if each] == [False] * 4 + [True]
    saturday = values[2]
    assert saturday is not None
    assert (saturday.date, saturday.released_at) == (FRIDAY + DAY, from_ms(after))


def test_the_day_on_which_the_hour_changes_in_chicago_is_one_day() -> None:
    saturday = date(2025, 3, 8)
    history = VintageHistory([vintage(saturday, saturday, 4.3)])
    begin, end = datetime(2025, 3, 9, 6, tzinfo=UTC), datetime(2025, 3, 10, 5, tzinfo=UTC)
    assert history.at(begin - timedelta(seconds=1)) is None
    for moment, carried in ((begin, False), (end - timedelta(seconds=1), False), (end, True)):
        value = history.at(moment)
        assert value is not None
        assert value.is_forward_filled == carried


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2025-03-07T05:59", "2025-03-07T06:00"),
        ("2025-03-07T06:00", "2025-03-08T06:00"),
        ("2025-03-08T06:00", "2025-03-11T05:00"),  # the weekend in which the hour changes
    ],
)
def test_the_next_release_is_the_midnight_after_a_weekday(moment: str, expected: str) -> None:
    assert next_release(datetime.fromisoformat(f"{moment}+00:00")) == datetime.fromisoformat(
        f"{expected}+00:00"
    )
