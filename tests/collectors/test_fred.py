"""Macro releases: every vintage once, and never known before its release."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
import redis

from collectors import services
from collectors.budget import CallBudget
from collectors.exchange import KeyMissing, MalformedPayload
from collectors.fred import Fred, Row, as_vintages
from collectors.marketdata import macro_key, to_ms
from collectors.models import Instrument, MacroObservation
from collectors.releases import newest_release, next_business_day, release_moment
from collectors.selectors import macro_known_at, revisions
from tests.collectors.providers import Answer, Provider, Venues, json_answer, observations


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
    columns = macro_known_at(
        series_ids=["VIXCLS", "DFF"],
        moments_ms=np.array([to_ms(moment) for moment in moments], dtype=np.int64),
    )
    vix = columns["VIXCLS"]
    assert vix.value.tolist() == [19.1, 20.5, 20.7]
    assert vix.known.tolist() == [False, True, True]
    # A correction makes Friday's value no younger.
    assert vix.released_ms.tolist() == [0, *[to_ms(datetime(2025, 3, 1, 6, tzinfo=UTC))] * 2]
    assert not columns["DFF"].known.any()


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


def test_a_late_first_value_of_a_watched_date_has_a_true_release() -> None:
    rows = [row("2025-01-02", "2025-01-01", "."), row("2025-03-03", "2025-01-01", "20.5")]
    (late,) = as_vintages(rows, known={})
    assert not late.is_release_assumed
    assert late.released_at == datetime(2025, 3, 4, 6, tzinfo=UTC)


def test_pages_that_change_while_they_are_read_are_not_believed(
    bitcoin: Instrument, provider: Provider, venues: Venues
) -> None:
    def route(params: dict[str, str]) -> Answer:
        offset = int(params["offset"])
        shown = [{"realtime_start": "2025-02-28", "date": "2025-02-27", "value": "20.5"}]
        return json_answer({"count": 3 + offset, "observations": shown})

    provider.routes["/fred/series/observations"] = route
    with pytest.raises(MalformedPayload, match="changed"):
        services.collect_macro(series_id="VIXCLS")
    assert not MacroObservation.objects.exists()
    _, asked = provider.requests[0]
    assert (asked["order_by"], asked["sort_order"], asked["limit"]) == (
        "observation_date", "asc", "10000",
    )  # fmt: skip
