"""Macro releases: every vintage once, and never known before its release."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors import clock, events, services, tasks
from collectors.budget import CallBudget
from collectors.exchange import KeyMissing, MalformedPayload, ProviderError
from collectors.fred import (
    Fred,
    Row,
    as_vintages,
    newest_release,
    next_business_day,
    release_moment,
)
from collectors.marketdata import macro_key, to_ms
from collectors.models import Instrument, MacroObservation, MacroSeries
from collectors.selectors import macro_is_current, macro_known_at, revisions
from tests.collectors.providers import NOW, Answer, Provider, Venues, json_answer


def row(realtime_start: str, observed: str, value: str) -> Row:
    return Row(date.fromisoformat(realtime_start), date.fromisoformat(observed), value)


def test_vintages_skip_missing_values_and_the_edges_of_windows() -> None:
    rows = [
        row("2025-02-28", "2025-02-28", "20.5"),
        row("2025-03-03", "2025-02-28", "20.5"),  # the edge of the next window
        row("2025-03-05", "2025-02-28", "21.0"),  # a revision
        row("2025-03-03", "2025-03-03", "."),
    ]
    vintages = as_vintages(rows, known={})
    assert [(item.realtime_start.day, item.value) for item in vintages] == [(28, 20.5), (5, 21.0)]
    assert as_vintages(rows[1:2], known={date(2025, 2, 28): 20.5}) == []


@pytest.mark.parametrize(
    ("published", "value"),
    [("2025-03-03", "n/a"), ("2025-03-03", "nan"), ("2025-03-03", "inf"), ("9999-12-31", "1")],
)
def test_a_value_that_is_no_number_is_malformed(published: str, value: str) -> None:
    with pytest.raises(MalformedPayload):
        as_vintages([row(published, "9999-12-31", value)], known={})


@pytest.mark.parametrize(
    ("day", "utc_hour"),
    [(date(2025, 1, 15), 6), (date(2025, 7, 15), 5)],  # winter and summer in Chicago
)
def test_a_release_is_usable_from_midnight_in_chicago(day: date, utc_hour: int) -> None:
    moment, assumed = release_moment(day, day, is_first=True)
    expected = datetime(day.year, day.month, day.day, utc_hour, tzinfo=UTC) + timedelta(days=1)
    assert (moment, assumed) == (expected, False)


def test_an_early_observation_is_assumed_to_come_on_the_next_business_day() -> None:
    friday = date(1995, 6, 2)
    moment, assumed = release_moment(friday, date(2010, 1, 4), is_first=True)
    assert (moment, assumed) == (datetime(1995, 6, 5, 5, tzinfo=UTC), True)
    assert next_business_day(friday) == date(1995, 6, 5)


def test_without_a_key_the_variable_is_named(redis_client: redis.Redis) -> None:
    source = Fred(
        base_url="http://127.0.0.1:9", budget=CallBudget(redis_client), timeout_s=1, api_key=""
    )
    day = date(2025, 3, 3)
    with pytest.raises(KeyMissing, match="FRED_API_KEY"):
        source.fetch_vintages("VIXCLS", observed_from=day, published_from=day, today=day, known={})


def observations(rows: list[tuple[str, str, str]], page: int) -> Any:
    """A route that cuts windows and pages as FRED does."""

    def route(params: dict[str, str]) -> Answer:
        start, end = params["realtime_start"], params["realtime_end"]
        shown = [
            {"realtime_start": max(first, start), "date": day, "value": value}
            for first, day, value in rows
            if first <= end and day >= params["observation_start"]
        ]
        offset = int(params["offset"])
        return json_answer({"count": len(shown), "observations": shown[offset : offset + page]})

    return route


def test_collecting_twice_stores_each_vintage_once(
    bitcoin: Instrument, provider: Provider, venues: Venues
) -> None:
    rows = [
        ("2025-02-26", "2025-02-26", "19.1"),
        ("2025-02-27", "2025-02-27", "."),
        ("2025-02-28", "2025-02-28", "20.5"),
    ]
    provider.routes["/fred/series/observations"] = observations(rows, page=2)
    assert services.collect_macro(series_id="VIXCLS") == 2
    assert services.collect_macro(series_id="VIXCLS") == 0
    rows.append(("2025-03-02", "2025-02-28", "20.7"))
    assert services.collect_macro(series_id="VIXCLS") == 1
    assert revisions(keys=[macro_key("VIXCLS")]) == {macro_key("VIXCLS"): 2}
    moments = [datetime(2025, 2, 20, tzinfo=UTC), datetime(2025, 3, 2, tzinfo=UTC)]
    moments.append(datetime(2025, 3, 4, tzinfo=UTC))
    values, known = macro_known_at(
        series_ids=["VIXCLS", "DFF"],
        moments_ms=np.array([to_ms(moment) for moment in moments], dtype=np.int64),
    )
    assert values["VIXCLS"].tolist() == [19.1, 20.5, 20.7]
    assert known["VIXCLS"].tolist() == [False, True, True]
    assert not known["DFF"].any()


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2025-03-04T05:59:59", "2025-03-01T06:00:00"),  # Monday in Chicago: Friday's values
        ("2025-03-04T06:00:00", "2025-03-04T06:00:00"),
        ("2025-03-02T12:00:00", "2025-03-01T06:00:00"),
        ("2025-07-16T05:00:00", "2025-07-16T05:00:00"),
    ],
)
def test_values_become_usable_at_the_midnights_after_weekdays(moment: str, expected: str) -> None:
    assert newest_release(datetime.fromisoformat(f"{moment}+00:00")) == datetime.fromisoformat(
        f"{expected}+00:00"
    )


@pytest.mark.django_db(transaction=True)
def test_a_series_is_current_once_it_was_asked_for_after_its_release(
    bitcoin: Instrument, provider: Provider, venues: Venues
) -> None:
    def lacking(moment: datetime) -> list[str]:
        return macro_is_current(series_ids=["VIXCLS", "DFF"], moment=moment)

    heard: list[list[str]] = []

    def listen(series_ids: list[str], **_: Any) -> None:
        heard.append(series_ids)

    address = "/fred/series/observations"
    provider.routes[address] = lambda _: json_answer({}, 400)
    with pytest.raises(ProviderError):
        services.collect_macro(series_id="VIXCLS")
    assert lacking(NOW) == ["VIXCLS", "DFF"]
    provider.routes[address] = observations([("2025-02-28", "2025-02-28", "20.5")], page=2)
    assert tasks.collect_macro_series() == 1
    assert lacking(NOW) == ["DFF"]
    asked = len(provider.requests)
    assert tasks.collect_macro_series() == 0
    assert len(provider.requests) == asked  # nothing is due
    release = datetime(2025, 3, 4, 6, tzinfo=UTC)
    assert lacking(release - timedelta(seconds=1)) == ["DFF"]
    assert lacking(release) == ["VIXCLS", "DFF"]
    clock.configure(clock.MarketClock(start=release, anchor=clock.wall_now(), speed=1.0))
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
    asked=st.lists(st.integers(0, 45 * 24), min_size=1, max_size=10),
)
@settings(max_examples=30, deadline=None)
@pytest.mark.django_db
def test_nothing_is_known_before_its_release(
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
    values, known = macro_known_at(
        series_ids=["LAW"],
        moments_ms=np.array([to_ms(moment) for moment in moments], dtype=np.int64),
    )
    for position, moment in enumerate(moments):
        visible = MacroObservation.objects.filter(released_at__lte=moment)
        newest = visible.order_by("-date", "-realtime_start").first()
        assert known["LAW"][position] == (newest is not None)
        if newest is not None:
            assert values["LAW"][position] == newest.value
