"""Macro series: which there are, when they are asked for, what is rejected and what is stale."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors import clock, events, services, tasks
from collectors.exchange import ProviderError
from collectors.macro_registry import MACRO_SERIES, check_value, is_stale
from collectors.marketdata import to_ms
from collectors.models import Instrument, MacroObservation, MacroSeries, QualityFinding
from collectors.releases import release_moment
from collectors.selectors import (
    due_macro_series,
    macro_as_of,
    macro_as_of_many,
    macro_is_current,
    macro_known_at,
)
from tests.collectors.providers import NOW, Answer, Provider, Venues, json_answer, observations

ADDRESS = "/fred/series/observations"
FRIDAY = date(2025, 2, 28)


def only(series_id: str) -> MacroSeries:
    """The series, and no other enabled."""
    MacroSeries.objects.exclude(series_id=series_id).update(is_enabled=False)
    return MacroSeries.objects.get(series_id=series_id)


def set_clock(moment: datetime) -> None:
    clock.configure(clock.MarketClock(start=moment, anchor=clock.wall_now(), speed=1.0))


def test_nine_series_are_seeded_and_the_strategies_own_comes_first(bitcoin: Instrument) -> None:
    named = {"VIXCLS", "DFF", "DGS10", "DTWEXBGS", "DEXUSEU", "DEXCHUS", "BAMLH0A0HYM2"}
    assert set(MACRO_SERIES) == named | {"RRPONTSYD", "SOFR"}
    due = due_macro_series(moment=NOW)
    assert due == list(MACRO_SERIES)
    assert due[0] == "VIXCLS"
    for series in MacroSeries.objects.all():
        facts = MACRO_SERIES[series.series_id]
        assert (series.name, series.units, series.frequency, series.is_enabled) == (
            facts.name, facts.units, facts.frequency, True,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("series_id", "value", "reason"),
    [
        ("VIXCLS", 82.69, None),
        ("VIXCLS", 0.0, "out of range"),
        ("DFF", 0.04, None),
        ("DFF", 408.0, "out of range"),
        ("RRPONTSYD", 0.0, None),
        ("RRPONTSYD", 2553.7, None),
        ("RRPONTSYD", -1.0, "out of range"),
        ("SOFR", float("nan"), "not finite"),
        ("ANOTHER", 1e12, None),
    ],
)
def test_a_value_outside_of_what_the_series_can_be_is_named(
    series_id: str, value: float, reason: str | None
) -> None:
    assert check_value(series_id, value) == reason


@pytest.mark.parametrize(
    ("series_id", "newest", "today", "expected"),
    [
        ("VIXCLS", date(2024, 11, 27), date(2024, 12, 2), False),  # Thanksgiving lies between
        ("VIXCLS", date(2024, 11, 27), date(2024, 12, 3), False),
        ("VIXCLS", date(2024, 11, 27), date(2024, 12, 4), True),
        ("DFF", date(2024, 12, 1), date(2024, 12, 5), False),
        ("DFF", date(2024, 12, 1), date(2024, 12, 6), True),
        ("DEXUSEU", date(2024, 12, 6), date(2024, 12, 18), False),  # weekly, on Mondays
        ("DEXUSEU", date(2024, 12, 6), date(2024, 12, 19), True),
    ],
)
def test_a_series_is_stale_when_its_rhythm_is_broken(
    series_id: str, newest: date, today: date, expected: bool
) -> None:
    assert is_stale(series_id, newest, today) == expected


def test_a_value_out_of_range_is_rejected_found_and_does_not_hide_its_correction(
    bitcoin: Instrument, provider: Provider, venues: Venues
) -> None:
    series = only("VIXCLS")
    rows = [("2025-02-26", "2025-02-26", "19.1"), ("2025-02-28", "2025-02-28", "2050.0")]
    provider.routes[ADDRESS] = observations(rows, page=2)
    assert services.collect_macro(series_id="VIXCLS") == 1
    assert services.collect_macro(series_id="VIXCLS") == 0
    (row,) = QualityFinding.objects.all()
    assert (row.verdict, row.reason, row.macro_series, row.times) == (
        "rejected", "out of range", series, 2,
    )  # fmt: skip
    assert (row.at.date(), row.values["value"]) == (FRIDAY, 2050.0)
    rows.append(("2025-03-03", "2025-02-28", "20.5"))
    assert services.collect_macro(series_id="VIXCLS") == 1
    assert list(series.observations.order_by("date").values_list("value", flat=True)) == [
        19.1,
        20.5,
    ]


def test_what_is_said_anew_under_a_stored_day_counts_as_published_today(
    bitcoin: Instrument, provider: Provider, venues: Venues
) -> None:
    series = only("VIXCLS")
    rows = [("2025-02-28", "2025-02-28", "20.5")]
    provider.routes[ADDRESS] = observations(rows, page=2)
    assert services.collect_macro(series_id="VIXCLS") == 1
    rows[0] = ("2025-02-28", "2025-02-28", "21.5")
    assert services.collect_macro(series_id="VIXCLS") == 1
    assert services.collect_macro(series_id="VIXCLS") == 0
    first, second = series.observations.order_by("realtime_start")
    assert (first.value, second.value, second.realtime_start) == (20.5, 21.5, NOW.date())
    assert second.released_at == datetime(2025, 3, 4, 6, tzinfo=UTC)


def test_a_series_that_fred_does_not_have_is_left_alone_until_the_next_release(
    bitcoin: Instrument, provider: Provider, venues: Venues
) -> None:
    missing = {"error_code": 400, "error_message": "Bad Request.  The series does not exist."}
    there = observations([("2025-02-28", "2025-02-28", "20.5")], page=5)

    def route(params: dict[str, str]) -> Answer:
        return there(params) if params["series_id"] == "VIXCLS" else json_answer(missing, 400)

    provider.routes[ADDRESS] = route
    assert tasks.collect_macro_series() == 1
    assert len(provider.requests) == len(MACRO_SERIES)
    sofr = MacroSeries.objects.get(series_id="SOFR")
    assert "does not exist" in sofr.last_error
    assert (sofr.consecutive_failures, sofr.last_success_at) == (1, None)
    assert macro_is_current(series_ids=["VIXCLS"], moment=NOW) == []  # what strategies wait for
    set_clock(datetime(2025, 3, 4, 5, 59, tzinfo=UTC))
    assert due_macro_series(moment=clock.now()) == []
    set_clock(datetime(2025, 3, 4, 6, tzinfo=UTC))
    assert due_macro_series(moment=clock.now()) == list(MACRO_SERIES)
    provider.routes[ADDRESS] = there
    possible = [name for name in MACRO_SERIES if check_value(name, 20.5) is None]
    assert tasks.collect_macro_series() == len(possible) - 1 == 5
    sofr.refresh_from_db()
    assert (sofr.last_error, sofr.consecutive_failures, sofr.retry_at) == ("", 0, None)


def test_a_failing_series_is_asked_for_less_and_less(
    bitcoin: Instrument, provider: Provider, venues: Venues
) -> None:
    series = only("VIXCLS")
    provider.routes[ADDRESS] = lambda _: json_answer({"observations": 1})
    pauses = []
    for _ in range(6):
        set_clock(NOW)
        with pytest.raises(ProviderError):
            services.collect_macro(series_id="VIXCLS")
        series.refresh_from_db()
        assert series.retry_at is not None
        pauses.append(round((series.retry_at - NOW) / timedelta(minutes=30)))
    assert pauses == [1, 2, 4, 8, 12, 12]
    assert series.consecutive_failures == 6
    assert due_macro_series(moment=NOW) == []


@pytest.mark.django_db(transaction=True)
def test_a_stretch_without_new_values_is_flagged_once(
    bitcoin: Instrument, provider: Provider, venues: Venues
) -> None:
    series = only("VIXCLS")
    rows = [("2025-02-27", "2025-02-27", "20.5")]
    provider.routes[ADDRESS] = observations(rows, page=5)
    tasks.collect_macro_series()
    assert not QualityFinding.objects.exists()
    for day in (4, 5, 6, 7):
        set_clock(datetime(2025, 3, day, 7, tzinfo=UTC))
        tasks.collect_macro_series()
        assert services.flag_stale_series() == 0
    (row,) = QualityFinding.objects.all()
    assert (row.verdict, row.reason, row.macro_series, row.times) == ("flagged", "stale", series, 1)
    assert row.values["newest"] == "2025-02-27"
    rows.append(("2025-03-07", "2025-03-06", "21.5"))
    set_clock(datetime(2025, 3, 8, 7, tzinfo=UTC))
    tasks.collect_macro_series()
    assert QualityFinding.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_series_is_current_once_it_was_asked_for_after_its_release(
    bitcoin: Instrument, provider: Provider, venues: Venues
) -> None:
    def lacking(moment: datetime) -> list[str]:
        return macro_is_current(series_ids=["VIXCLS", "DFF"], moment=moment)

    heard: list[list[str]] = []

    def listen(series_ids: list[str], **_: Any) -> None:
        heard.append(series_ids)

    only("VIXCLS")
    provider.routes[ADDRESS] = lambda _: json_answer({}, 400)
    assert tasks.collect_macro_series() == 0
    assert lacking(NOW) == ["VIXCLS", "DFF"]
    provider.routes[ADDRESS] = observations([("2025-02-28", "2025-02-28", "20.5")], page=2)
    set_clock(NOW + timedelta(hours=7))
    assert tasks.collect_macro_series() == 1
    assert lacking(NOW) == ["DFF"]
    asked = len(provider.requests)
    assert tasks.collect_macro_series() == 0
    assert len(provider.requests) == asked  # nothing is due
    release = datetime(2025, 3, 4, 6, tzinfo=UTC)
    assert lacking(release - timedelta(seconds=1)) == ["DFF"]
    assert lacking(release) == ["VIXCLS", "DFF"]
    set_clock(release)
    events.macro_stored.connect(listen)
    try:
        assert tasks.collect_macro_series() == 0
    finally:
        events.macro_stored.disconnect(listen)
    assert lacking(release) == ["DFF"]
    assert heard == [["VIXCLS"]]  # there was nothing new, which a waiting run must know


@given(
    published=st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 15), st.floats(5, 90)),
        min_size=1,
        max_size=15,
        unique_by=lambda item: item[:2],
    ),
    asked=st.lists(st.integers(0, 45 * 24), min_size=25, max_size=25),
)
@settings(max_examples=40, deadline=None)
@pytest.mark.django_db
def test_at_a_thousand_random_moments_nothing_is_known_before_its_release(
    published: list[tuple[int, int, float]], asked: list[int]
) -> None:
    MacroObservation.objects.all().delete()
    series, _ = MacroSeries.objects.get_or_create(series_id="LAW")
    first = date(2025, 1, 1)
    for day, delay, value in published:
        observed = first + timedelta(days=day)
        start = observed + timedelta(days=delay)
        moment, _ = release_moment(observed, start, is_first=True)
        MacroObservation.objects.create(
            series=series,
            date=observed,
            value=value,
            realtime_start=start,
            released_at=moment,
            received_at=moment,
        )
    moments = [datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=hours) for hours in asked]
    in_ms = np.array([to_ms(moment) for moment in moments], dtype=np.int64)
    column = macro_known_at(series_ids=["LAW"], moments_ms=in_ms)["LAW"]
    many = macro_as_of_many(series_id="LAW", moments_ms=in_ms)
    assert column.known.tolist() == many.known.tolist()
    for position, moment in enumerate(moments):
        visible = MacroObservation.objects.filter(released_at__lte=moment)
        newest = visible.order_by("-date", "-realtime_start").first()
        found = macro_as_of(series_id="LAW", at=moment)
        assert column.known[position] == (newest is not None) == (found is not None)
        if newest is not None and found is not None:
            assert column.value[position] == newest.value == found.value == many.value[position]
            assert found.released_at == newest.released_at <= moment
            assert column.day[position] == (newest.date - date(1970, 1, 1)).days


def test_an_unknown_series_is_no_series_without_values(bitcoin: Instrument) -> None:
    assert macro_as_of(series_id="VIXCLS", at=NOW) is None
    with pytest.raises(MacroSeries.DoesNotExist):
        macro_as_of(series_id="NOPE", at=NOW)
