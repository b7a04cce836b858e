"""The collected data over HTTP."""

from base64 import b64encode
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import include, path
from rest_framework.test import APIClient

from collectors import api, clock, services
from collectors.marketdata import Candle
from collectors.models import (
    CandleHole,
    CollectionState,
    Instrument,
    MacroObservation,
    MacroSeries,
    ProviderCallMinute,
)
from collectors.quality import Finding
from collectors.services.providers import call_budget
from tests.factories import make_user

admin.autodiscover()
urlpatterns = [path("admin/", admin.site.urls), path("api/v1/", include(api.urlpatterns))]
pytestmark = pytest.mark.urls(__name__)
START = datetime(2025, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def viewer(bitcoin: Instrument, market_now: datetime) -> APIClient:
    """A client logged in as viewer, among the seeded instruments."""
    client = APIClient()
    client.force_authenticate(make_user("viewer", role="viewer"))
    return client


@pytest.fixture
def operator(bitcoin: Instrument) -> APIClient:
    """A client logged in as operator."""
    client = APIClient()
    client.force_authenticate(make_user("operator", role="operator"))
    return client


def test_candles_are_paged_by_open_time(viewer: APIClient, bitcoin: Instrument) -> None:
    candles = [
        Candle(
            open_time=START + hour * HOUR,
            open=1.0,
            high=2.0,
            low=0.5,
            close=1.5,
            volume=None,
            source="coingecko",
            is_sampled=True,
        )
        for hour in range(5)
    ]
    services.store_candles(instrument=bitcoin, timeframe="1h", candles=candles)
    query = {"instrument": "bitcoin", "timeframe": "1h", "page_size": 3}
    query |= {"start": "2025-03-01T01:00:00Z", "end": "2025-03-01T05:00:00Z"}
    page = viewer.get("/api/v1/candles/", query).json()
    assert [row["open_time"] for row in page["results"]] == [
        f"2025-03-01T0{hour}:00:00Z" for hour in (1, 2, 3)
    ]
    assert page["results"][0]["volume"] is None
    assert page["results"][0]["is_sampled"] is True
    rest = viewer.get(page["next"]).json()["results"]
    assert [row["open_time"] for row in rest] == ["2025-03-01T04:00:00Z"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "instrument"),
        ({"instrument": "nocoin"}, "instrument"),
        ({"instrument": "bitcoin", "timeframe": "7h"}, "timeframe"),
        ({"instrument": "bitcoin", "start": "yesterday"}, "start"),
    ],
)
def test_a_wrong_candle_query_names_its_field(
    viewer: APIClient, query: dict[str, str], field: str
) -> None:
    answer = viewer.get("/api/v1/candles/", query)
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [field]


@pytest.mark.parametrize(
    "address",
    ["/api/v1/coverage/?", "/api/v1/candles/?instrument=bitcoin&", "/api/v1/macro/?series=VIXCLS&"],
)  # ordered by id, by moment, by day
def test_a_wrong_cursor_is_not_found(viewer: APIClient, address: str) -> None:
    def ask(cursor: str) -> Any:
        return viewer.get(f"{address}cursor={quote(b64encode(cursor.encode('latin-1')))}")

    for cursor in ("p=abc", "p=", "p=2025-13-45", "p=%00", "p=1&r=x", "o=-1", "\xff"):
        answer = ask(cursor)
        assert answer.status_code == 404, cursor
        error = {"code": "not_found", "message": "Invalid cursor", "fields": {}}
        assert answer.json() == {"error": error}
    # Well formed, but beyond what is counted or what a database can compare.
    for cursor in ("o=99999999", "p=" + "9" * 30, "p=9999-12-31T23:59:59-14:00"):
        assert ask(cursor).status_code in {200, 404}, cursor


def test_instruments_are_listed_and_changed_by_operators(
    viewer: APIClient, operator: APIClient, bitcoin: Instrument
) -> None:
    listed = viewer.get("/api/v1/instruments/").json()["results"]
    assert len(listed) == 15
    address = f"/api/v1/instruments/{bitcoin.pk}/"
    assert viewer.patch(address, {"is_enabled": False}, format="json").status_code == 403
    change = {
        "tier": "hourly",
        "timeframes": ["1h"],
        "source_chain": ["bybit"],
        "coin_id": "other",
    }
    answer = operator.patch(address, change, format="json").json()
    assert (answer["coin_id"], answer["timeframes"]) == ("bitcoin", ["1h"])
    refused = operator.patch(address, {"source_chain": ["nowhere"]}, format="json")
    assert refused.status_code == 400
    twice = operator.patch(address, {"source_chain": ["bybit", "bybit"]}, format="json")
    assert twice.json()["error"]["fields"] == {"source_chain": ["a source is named twice"]}
    assert APIClient().get("/api/v1/instruments/").status_code == 401


def test_coverage_shows_holes_with_their_label(viewer: APIClient, bitcoin: Instrument) -> None:
    CollectionState.objects.create(instrument=bitcoin, timeframe="1h")
    CandleHole.objects.create(
        instrument=bitcoin, timeframe="1h", start=START, end=START, label="no_trade", seen_at=START
    )
    (entry,) = viewer.get("/api/v1/coverage/").json()["results"]
    assert (entry["instrument"], entry["holes"][0]["label"]) == ("bitcoin", "no_trade")
    assert (entry["stored"], entry["covered_pct"]) == (0, 0.0)
    assert entry["expected"] == entry["lacking"] + 1 > 75 * 24
    assert entry["is_derived"] is False
    assert [item["timeframe"] for item in entry["derived"]] == ["4h", "1d"]
    assert (entry["success_rate"], entry["response_ms"], entry["next_due_at"]) == (None, None, None)


def test_coverage_of_one_series(viewer: APIClient, bitcoin: Instrument) -> None:
    solana = Instrument.objects.get(coin_id="solana")
    for instrument, timeframe in ((bitcoin, "1h"), (bitcoin, "15m"), (solana, "1h")):
        CollectionState.objects.create(
            instrument=instrument, timeframe=timeframe, attempts=4, successes=3
        )
    query = {"instrument": "bitcoin", "timeframe": "15m"}
    (entry,) = viewer.get("/api/v1/coverage/", query).json()["results"]
    assert (entry["instrument"], entry["timeframe"]) == ("bitcoin", "15m")
    assert entry["success_rate"] == 0.75


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("coverage/?instrument=nocoin", "instrument"),
        ("coverage/?timeframe=7h", "timeframe"),
        ("findings/?instrument=nocoin", "instrument"),
        ("findings/?series=NONE", "series"),
        ("budget/?provider=nobody", "provider"),
    ],
)
def test_what_is_not_known_is_named(viewer: APIClient, address: str, field: str) -> None:
    answer = viewer.get(f"/api/v1/{address}")
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == {field}


def test_macro_is_as_it_was_known(viewer: APIClient) -> None:
    series = MacroSeries.objects.get(series_id="VIXCLS")
    for day, value in ((1, 20.0), (5, 21.0)):
        released = START + timedelta(days=day)
        MacroObservation.objects.create(
            series=series,
            date=START.date(),
            value=value,
            realtime_start=released.date(),
            released_at=released,
            received_at=released,
        )
    query = {"series": "VIXCLS", "as_of": (START + timedelta(days=2)).isoformat()}
    (early,) = viewer.get("/api/v1/macro/", query).json()["results"]
    assert (early["value"], early["is_forward_filled"]) == (20.0, False)
    query["as_of"] = (START + timedelta(days=9)).isoformat()
    (late,) = viewer.get("/api/v1/macro/", query).json()["results"]
    assert late["value"] == 21.0
    query["as_of"] = START.isoformat()
    assert viewer.get("/api/v1/macro/", query).json()["results"] == []
    assert viewer.get("/api/v1/macro/", {"series": "NOPE"}).status_code == 400


def make_observation(day: date, value: float, *, released_at: datetime) -> None:
    MacroObservation.objects.create(
        series=MacroSeries.objects.get(series_id="VIXCLS"),
        date=day,
        value=value,
        realtime_start=released_at.date(),
        released_at=released_at,
        received_at=released_at,
    )


def test_every_day_of_a_macro_series_says_how_it_came_by_its_value(viewer: APIClient) -> None:
    friday, monday = date(2025, 2, 28), date(2025, 3, 3)
    weekend = datetime(2025, 3, 1, 6, tzinfo=UTC)
    make_observation(friday, 20.0, released_at=weekend)
    make_observation(monday, 23.0, released_at=weekend + timedelta(days=3))
    query = {"series": "VIXCLS", "fill": "daily", "as_of": "2025-03-04T05:59:00Z"}

    def days() -> list[tuple[Any, ...]]:
        rows = viewer.get("/api/v1/macro/", query).json()["results"]
        return [
            (row["date"][-2:], row["value"], row["is_forward_filled"], row["is_interpolated"])
            for row in rows
        ]

    carried = [(f"0{day}", 20.0, True, False) for day in (4, 3, 2, 1)]
    assert days() == [*carried, ("28", 20.0, False, False)]
    query["interpolate"] = "true"
    assert days() == [*carried, ("28", 20.0, False, False)]  # nothing after was known yet
    query |= {"as_of": "2025-03-04T06:00:00Z", "end": "2025-03-04", "start": "2025-03-01"}
    assert days() == [
        ("03", 23.0, False, False), ("02", 22.0, False, True), ("01", 21.0, False, True),
    ]  # fmt: skip
    (first,) = viewer.get("/api/v1/macro/", query | {"end": "2025-03-02"}).json()["results"]
    assert first["released_at"] == "2025-03-04T06:00:00Z"
    query |= {"as_of": "2025-03-01T05:59:00Z"}
    assert days() == []
    refused = viewer.get("/api/v1/macro/", {"series": "VIXCLS", "interpolate": "true"})
    assert "interpolate" in refused.json()["error"]["fields"]


def test_the_days_of_a_macro_series_come_in_pages(viewer: APIClient) -> None:
    first = date(2019, 1, 1)
    make_observation(first, 20.0, released_at=datetime(2019, 1, 2, 6, tzinfo=UTC))
    address, dates = "/api/v1/macro/?series=VIXCLS&fill=daily", []
    while address:
        page = viewer.get(address).json()
        dates += [row["date"] for row in page["results"]]
        address = page["next"]
    days = (clock.now().date() - first).days + 1
    assert dates == [(first + timedelta(days=days - 1 - n)).isoformat() for n in range(days)]
    assert days > 2000


def test_macro_series_tell_how_they_stand(viewer: APIClient) -> None:
    series = MacroSeries.objects.get(series_id="VIXCLS")
    MacroSeries.objects.filter(pk=series.pk).update(last_error="gone", consecutive_failures=3)
    make_observation(date(2025, 2, 20), 20.0, released_at=datetime(2025, 2, 21, 6, tzinfo=UTC))
    services.record_findings(
        subject="macro:VIXCLS",
        findings=[
            Finding(
                verdict="rejected", reason="out of range", at=START, source="fred", values={"v": 1}
            )
        ],
        macro_series=series,
    )
    entries = {entry["series_id"]: entry for entry in viewer.get("/api/v1/macro/series/").json()}
    assert len(entries) >= 9
    vix, sofr = entries["VIXCLS"], entries["SOFR"]
    assert (vix["newest_date"], vix["is_stale"], vix["findings"]) == ("2025-02-20", True, 1)
    assert (vix["last_error"], vix["consecutive_failures"]) == ("gone", 3)
    assert (sofr["newest_date"], sofr["is_stale"], sofr["findings"]) == (None, False, 0)
    (found,) = viewer.get("/api/v1/findings/?series=VIXCLS&verdict=rejected").json()["results"]
    assert (found["reason"], found["instrument"], found["series"], found["values"]) == (
        "out of range", None, "VIXCLS", {"v": 1},
    )  # fmt: skip
    assert viewer.get("/api/v1/findings/?reason=stale").json()["results"] == []
    assert viewer.get("/api/v1/findings/?verdict=maybe").status_code == 400


def test_the_budget_counts_every_reserved_call(viewer: APIClient) -> None:
    budget = call_budget()
    for failed, response_ms in ((False, 10), (True, 30)):
        reservation = budget.reserve("binance", "/klines", 240)
        budget.settle(reservation, failed=failed, response_ms=response_ms)
    (binance,) = viewer.get("/api/v1/budget/", {"provider": "binance"}).json()["providers"]
    assert (binance["calls_today"], binance["errors_today"]) == (2, 1)
    assert binance["mean_response_ms"] == 20
    assert binance["utilization_pct"] in {10.0, 20.0}  # a minute may end between the two
    assert clock.now() > START


@pytest.mark.parametrize(
    "model",
    [
        "instrument", "listing", "series", "ohlcv", "candlereplacement", "candlehole",
        "macroseries", "macroobservation", "providercallminute", "collectionstate",
        "qualityfinding",
    ],
)  # fmt: skip
def test_every_model_has_an_admin_page(client: Client, bitcoin: Instrument, model: str) -> None:
    client.force_login(make_user("root", role=None, is_superuser=True, is_staff=True))
    assert client.get(f"/admin/collectors/{model}/?q=x").status_code == 200


def test_the_pages_show_lists_and_figures_for_people(client: Client, bitcoin: Instrument) -> None:
    client.force_login(make_user("root", role=None, is_superuser=True, is_staff=True))
    CollectionState.objects.create(
        instrument=bitcoin, timeframe="1h", attempts=8, successes=7, response_ms=12.3456
    )
    ProviderCallMinute.objects.create(
        provider="bybit", endpoint="/x", minute=START, calls=3, response_ms_total=20.0
    )
    for model, texts in {
        "instrument": ["15m, 1h", "binance, bybit, coingecko"],
        "collectionstate": ["87.5% of 8", "12.3 ms"],
        "providercallminute": ["6.7 ms"],
    }.items():
        page = client.get(f"/admin/collectors/{model}/").content.decode()
        assert [text for text in texts if text not in page] == []


def test_the_pages_of_instruments_and_series_count_their_findings(
    client: Client, bitcoin: Instrument
) -> None:
    client.force_login(make_user("root", role=None, is_superuser=True, is_staff=True))
    series = MacroSeries.objects.get(series_id="VIXCLS")
    found = Finding(verdict="flagged", reason="repeated", at=START, source="x", values={})
    services.record_findings(
        subject="candles:bitcoin:1h", findings=[found, found], instrument=bitcoin
    )
    services.record_findings(subject="macro:VIXCLS", findings=[found], macro_series=series)
    for page, pk, times in (("instrument", bitcoin.pk, 2), ("macroseries", series.pk, 1)):
        shown = client.get(f"/admin/collectors/{page}/{pk}/change/").content.decode()
        assert f"repeated (flagged, {times} times)" in shown
        assert client.get(f"/admin/collectors/{page}/add/").status_code == 200
    column = "instrument__id__exact"
    rows = client.get(f"/admin/collectors/qualityfinding/?{column}={bitcoin.pk}").content.decode()
    assert "candles:bitcoin:1h" in rows
    assert "macro:VIXCLS</" not in rows
