"""How complete the series are: by day, in all, over HTTP and on the admin's map."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from collectors import clock, services
from collectors.marketdata import Candle
from collectors.models import Backfill, CandleHole, CollectionState, Instrument
from collectors.selectors import SeriesKey, coverage_map, known_series, series_totals
from tests.collectors.providers import NOW
from tests.factories import make_user

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = datetime(2025, 3, 1, tzinfo=UTC)


def store(instrument: Instrument, start: datetime, bars: int, source: str, **fields: Any) -> None:
    values: dict[str, Any] = {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0}
    services.store_candles(
        instrument=instrument,
        timeframe="1h",
        candles=[
            Candle(open_time=start + number * HOUR, source=source, **values | fields)
            for number in range(bars)
        ],
    )


def hole(instrument: Instrument, start: datetime, bars: int, label: str) -> None:
    CandleHole.objects.create(
        instrument=instrument,
        timeframe="1h",
        start=start,
        end=start + (bars - 1) * HOUR,
        label=label,
        seen_at=NOW,
    )


@pytest.fixture
def patchwork(bitcoin: Instrument, market_now: datetime) -> Instrument:
    """Two days and a half: 20 + 4 bars of two sources, then 3 samples, holes from one day into the
    next, and an hour that nobody has asked for."""
    store(bitcoin, FIRST, 20, "binance")
    store(bitcoin, FIRST + 20 * HOUR, 4, "bybit")
    store(bitcoin, FIRST + DAY, 3, "coingecko", volume=None, is_sampled=True)
    hole(bitcoin, FIRST + DAY + 3 * HOUR, 20, "no_trade")
    hole(bitcoin, FIRST + DAY + 23 * HOUR, 3, "unrepairable")
    hole(bitcoin, FIRST + 2 * DAY + 2 * HOUR, 2, "pending")
    store(bitcoin, FIRST + 2 * DAY + 4 * HOUR, 5, "binance")
    return bitcoin


def test_days_are_divided_by_state_and_source(patchwork: Instrument) -> None:
    key = SeriesKey(patchwork, "1h", None)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        table = coverage_map(
            series=[key], first_day=date(2025, 2, 28), days=4, required_from=FIRST, now=NOW
        )
    assert len(queries) == 2
    assert [str(day) for day in table.days][::3] == ["2025-02-28", "2025-03-03"]
    assert table.expected.tolist() == [[0, 24, 24, 10]]
    assert table.stored.tolist() == [[0, 24, 3, 5]]
    assert table.sampled.tolist() == [[0, 0, 3, 0]]
    assert table.no_trade.tolist() == [[0, 0, 20, 0]]
    assert table.unrepairable.tolist() == [[0, 0, 1, 2]]
    assert table.lacking.tolist() == [[0, 0, 0, 3]]
    assert {name: counts.tolist() for name, counts in table.by_source.items()} == {
        "binance": [[0, 20, 0, 5]],
        "bybit": [[0, 4, 0, 0]],
        "coingecko": [[0, 0, 3, 0]],
    }


def test_nothing_is_required_before_the_history_begins(patchwork: Instrument) -> None:
    key = SeriesKey(patchwork, "1h", FIRST + 2 * DAY)
    table = coverage_map(
        series=[key], first_day=date(2025, 3, 1), days=3, required_from=FIRST, now=NOW
    )
    assert table.expected.tolist() == [[24, 24, 10]]  # what is there all the same
    assert table.lacking.tolist() == [[0, 0, 3]]
    totals = series_totals(series=[key], required_from=FIRST, now=NOW)[patchwork.pk, "1h"]
    assert totals.expected == 10


def test_totals_add_up(patchwork: Instrument) -> None:
    key = SeriesKey(patchwork, "1h", None)
    totals = series_totals(series=[key], required_from=FIRST, now=NOW)[patchwork.pk, "1h"]
    assert (totals.expected, totals.stored, totals.lacking) == (58, 32, 3)
    assert (totals.no_trade, totals.unrepairable) == (20, 3)
    assert totals.covered_pct == 55.172


def test_what_was_fetched_once_is_not_required(patchwork: Instrument) -> None:
    Instrument.objects.filter(pk=patchwork.pk).update(is_enabled=False)
    key = SeriesKey(Instrument.objects.get(pk=patchwork.pk), "1h", None)
    totals = series_totals(series=[key], required_from=FIRST, now=NOW)[patchwork.pk, "1h"]
    assert (totals.expected, totals.lacking) == (55, 0)


def test_series_are_those_collected_and_those_that_were(bitcoin: Instrument) -> None:
    CollectionState.objects.create(instrument=bitcoin, timeframe="1m")
    Instrument.objects.filter(coin_id="solana").update(is_enabled=False)
    keys = known_series(instruments=list(Instrument.objects.all()))
    names = [(key.instrument.coin_id, key.timeframe) for key in keys]
    assert [name for name in names if name[0] == "bitcoin"] == [
        ("bitcoin", "1m"), ("bitcoin", "15m"), ("bitcoin", "1h"),
    ]  # fmt: skip
    assert ("tether", "1h") in names
    assert not [name for name in names if name[0] == "solana"]


# -- The admin ---------------------------------------------------------------------------------


@pytest.fixture
def operator(client: Client, patchwork: Instrument, settings: Any) -> Client:
    """A superuser's browser; instruments other than bitcoin are not collected."""
    Instrument.objects.exclude(pk=patchwork.pk).update(is_enabled=False)
    client.force_login(make_user("boss", role=None, is_staff=True, is_superuser=True))
    return client


def test_the_map_colours_each_day_and_leads_to_its_rows(
    operator: Client, patchwork: Instrument
) -> None:
    address = reverse("admin:collectors_coverage_map")
    page = operator.get(address, {"days": "30"}).content.decode()
    day = (date(2025, 3, 1) - date(1970, 1, 1)).days
    # Of several states the most urgent one colours the day.
    for number, state in enumerate(["worse", "unrepairable", "lacking"]):
        assert f'<a href="{patchwork.pk}/1h/{day + number}/"><rect class="{state}"' in page
    assert "bitcoin 1h 2025-03-01: 24 of 24 bars, 20 binance, 4 bybit" in page
    assert page.count("<rect") == 2 * 30
    whole = operator.get(f"{address}{patchwork.pk}/1h/{day}/", follow=True)
    assert whole.context["cl"].result_count == 24
    holes = operator.get(f"{address}{patchwork.pk}/1h/{day + 1}/", follow=True)
    assert holes.context["cl"].result_count == 2
    assert operator.get(f"{address}{patchwork.pk}/1h/99999999/", follow=True).status_code == 200
    assert address in operator.get("/admin/").content.decode()


def test_the_map_is_the_one_page_that_the_menu_marks(
    operator: Client, patchwork: Instrument
) -> None:
    page = operator.get(reverse("admin:collectors_coverage_map")).content.decode()
    assert re.findall(r'class="model-(\w+) current-model"', page) == ["coveragemap"]
    assert "Coverage by day | MTS" in page
    holes = operator.get(reverse("admin:collectors_candlehole_changelist")).content.decode()
    assert re.findall(r'class="model-(\w+) current-model"', holes) == ["candlehole"]
    headings = [" ".join(text.split()) for text in re.findall(r"<h3[^>]*>([^<]*)</h3>", holes)]
    assert headings[:3] == ["What is collected", "What is stored", "How it went"]


def test_the_map_is_for_those_who_may_see_holes(client: Client, patchwork: Instrument) -> None:
    client.force_login(make_user("guest", role=None, is_staff=True))
    assert client.get(reverse("admin:collectors_coverage_map")).status_code == 403


def test_a_backfill_is_asked_for_with_a_form(operator: Client, patchwork: Instrument) -> None:
    address = reverse("admin:collectors_backfill_add")
    form = {"instrument": patchwork.pk, "timeframe": "1h", "start_0": "2025-02-01"}
    form |= {"start_1": "00:00:00", "end_0": "2025-02-02", "end_1": "00:00:00"}
    refused = operator.post(address, {**form, "start_0": "2016-01-01"})
    assert "no source has candles before 2017-01-01" in refused.content.decode()
    assert not Backfill.objects.exists()
    assert operator.post(address, form).status_code == 302
    row = Backfill.objects.get()
    assert (row.end - row.start, row.requested_by is not None) == (DAY, True)
    listed = operator.get(reverse("admin:collectors_backfill_changelist")).content.decode()
    assert "0.0%" in listed
    shown = operator.get(reverse("admin:collectors_backfill_change", args=[row.pk]))
    page = shown.content.decode()
    assert "0.0%" in page
    assert "queued" in page
    assert "boss" in page
    assert "bitcoin 1h 2025-02-01 queued" in page
    choice = {"action": "cancel", "_selected_action": [row.pk]}
    operator.post(reverse("admin:collectors_backfill_changelist"), choice)
    row.refresh_from_db()
    assert row.state == "cancelled"


def test_the_default_history_is_asked_for_from_the_instruments_page(
    operator: Client, patchwork: Instrument
) -> None:
    choice = {"action": "backfill_default_history", "_selected_action": [patchwork.pk]}
    operator.post(reverse("admin:collectors_instrument_changelist"), choice)
    assert {row.timeframe for row in Backfill.objects.all()} == {"15m", "1h"}
    assert all(row.start == services.default_history_start() for row in Backfill.objects.all())
    assert clock.now() - Backfill.objects.all()[0].end < DAY
