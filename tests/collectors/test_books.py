"""Books as rows: samples of the newest, hours that add up, downtimes that end; and as answers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import redis
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from collectors import clock, services, tasks
from collectors.bookhours import BookHours, BookState, Downtime, HourPart
from collectors.marketdata import Quote
from collectors.models import BookDowntime, BookHour, BookSample, Instrument
from collectors.selectors import quote_key
from collectors.services.books import store_book_hours, store_downtimes
from tests.collectors.providers import NOW
from tests.factories import make_user

AT = datetime(2025, 3, 3, 10, 29, 59, tzinfo=UTC)


HOUR = timedelta(hours=1)
TOP = NOW.replace(minute=0)  # of the hour


def quote(
    redis_client: redis.Redis, exchange: str, at: datetime, ask: float = 100.2, **more: Any
) -> None:
    value = Quote(
        exchange=exchange,
        symbol="BTCUSDT",
        best_bid=99.8,
        bid_quantity=2.0,
        best_ask=ask,
        ask_quantity=3.0,
        event_time=at,
        received_at=clock.wall_now(),
        sequence=1,
    )
    fields = msgspec.structs.asdict(value) | more
    redis_client.set(quote_key(exchange, "BTCUSDT"), msgspec.json.encode(fields))


def test_every_streamed_book_that_moved_gets_one_row(
    bitcoin: Instrument, market_now: datetime, redis_client: redis.Redis
) -> None:
    assert services.sample_books() == 0
    quote(redis_client, "binance", AT)
    quote(redis_client, "bybit", AT, ask=99.7)
    assert tasks.sample_books() == 2
    assert tasks.sample_books() == 0  # nothing has moved
    quote(redis_client, "binance", AT + timedelta(minutes=15))
    assert tasks.sample_books() == 1
    row = BookSample.objects.get(exchange="binance", at=AT)
    assert (row.instrument, row.best_bid, row.ask_quantity) == (bitcoin, 99.8, 3.0)
    assert row.spread_bps == pytest.approx(40.0)
    assert BookSample.objects.get(exchange="bybit").spread_bps < 0  # crossed, and said so


def test_a_synchronised_book_is_sampled_with_its_depth(
    bitcoin: Instrument, market_now: datetime, redis_client: redis.Redis
) -> None:
    known = {"imbalance": 0.25, "depth_bps": {"10": [500.0, 300.0], "50": None}}
    quote(redis_client, "binance", AT, is_synced=True, mid_price=100.0, **known)
    # What a withheld book was like is not said, even if it stands there.
    quote(redis_client, "bybit", AT, is_synced=False, mid_price=100.0, **known)
    assert services.sample_books() == 2
    row = BookSample.objects.get(exchange="binance")
    assert (row.is_synced, row.mid_price, row.imbalance) == (True, 100.0, 0.25)
    assert (row.bid_depth_10_bps, row.ask_depth_10_bps) == (500.0, 300.0)
    assert (row.bid_depth_50_bps, row.ask_depth_50_bps) == (None, None)
    withheld = BookSample.objects.get(exchange="bybit")
    assert (withheld.is_synced, withheld.imbalance, withheld.bid_depth_10_bps) == (
        False, None, None,
    )  # fmt: skip
    assert withheld.spread_bps == pytest.approx(40.0)  # the top is the exchange's own


def test_what_is_older_than_an_hour_is_no_sample(
    bitcoin: Instrument, market_now: datetime, redis_client: redis.Redis
) -> None:
    quote(redis_client, "binance", NOW - timedelta(minutes=61))
    quote(redis_client, "bybit", NOW - timedelta(minutes=59))
    assert services.sample_books() == 1
    assert BookSample.objects.get().exchange == "bybit"


def test_spreads_are_served_newest_first(
    bitcoin: Instrument, market_now: datetime, redis_client: redis.Redis
) -> None:
    for minute in (0, 15):
        quote(redis_client, "binance", AT + timedelta(minutes=minute))
        quote(redis_client, "bybit", AT + timedelta(minutes=minute))
        services.sample_books()
    client = APIClient()
    assert client.get("/api/v1/spreads/").status_code == 401
    client.force_authenticate(make_user())
    address = "/api/v1/spreads/?instrument=bitcoin&exchange=bybit"
    newest, oldest = client.get(address).json()["results"]
    assert (newest["at"], oldest["at"]) == ("2025-03-03T10:44:59Z", "2025-03-03T10:29:59Z")
    assert newest["spread_bps"] == pytest.approx(40.0)
    before = client.get(f"{address}&end=2025-03-03T10:44:59Z").json()["results"]
    assert before == [oldest]
    assert client.get("/api/v1/spreads/?exchange=nasdaq").status_code == 400


def hours_of(bitcoin: Instrument, states: list[tuple[float, BookState]], until: float) -> None:
    """Store what a process saw of the book of bitcoin: states by the seconds they began."""
    hours = BookHours(longest=2 * HOUR)
    for seconds, state in states:
        hours.note("binance", "BTCUSDT", TOP + timedelta(seconds=seconds), state)
    parts = hours.take(TOP + timedelta(seconds=until))
    store_book_hours([(bitcoin, part) for part in parts])


def test_parts_of_an_hour_add_up(bitcoin: Instrument) -> None:
    good = BookState(True, 2.0, (100.0, 200.0), None, messages=10)
    hours_of(bitcoin, [(0, good), (600, BookState(False, messages=30, gaps=1))], until=900)
    better = BookState(True, 1.0, (400.0, 200.0), (1000.0, 3000.0), messages=5, resyncs=1)
    hours_of(bitcoin, [(1800, better)], until=3900)  # another process, into the next hour
    first, second = BookHour.objects.order_by("hour")
    assert (first.synced_s, first.withheld_s) == (2400.0, 300.0)
    assert first.spread_bps_mean == pytest.approx((2.0 * 600 + 1.0 * 1800) / 2400)
    assert (first.spread_bps_min, first.spread_bps_max) == (1.0, 2.0)
    assert first.bid_depth_10_bps == pytest.approx((100.0 * 600 + 400.0 * 1800) / 2400)
    assert (first.bid_depth_50_bps, first.depth_50_bps_s) == (1000.0, 1800.0)
    assert (first.messages, first.gaps, first.resyncs) == (35, 1, 1)
    assert (second.hour, second.synced_s, second.messages) == (TOP + HOUR, 300.0, 0)
    assert (second.spread_bps_mean, second.spread_bps_min) == (1.0, 1.0)


def test_parts_of_one_hour_in_one_batch_add_up(bitcoin: Instrument) -> None:
    hours = BookHours(longest=2 * HOUR)
    hours.note("binance", "BTCUSDT", TOP, BookState(True, 1.0))
    parts = hours.take(TOP + timedelta(seconds=10))
    hours.note("binance", "BTCUSDT", TOP + timedelta(seconds=10), BookState(True, 4.0))
    parts += hours.take(TOP + timedelta(seconds=15))
    store_book_hours([(bitcoin, part) for part in parts])
    row = BookHour.objects.get()
    assert (row.synced_s, row.spread_bps_mean) == (15.0, pytest.approx(2.0))


def test_many_parts_of_many_hours_are_added_at_once(bitcoin: Instrument) -> None:
    parts = [
        (bitcoin, HourPart(exchange, "BTCUSDT", TOP + number * HOUR, synced_s=1.0, spread=2.0))
        for number in range(150)
        for exchange in ("binance", "bybit")
    ]
    store_book_hours([*parts, *parts[:10]])
    assert BookHour.objects.count() == 300
    assert BookHour.objects.filter(synced_s=2.0, spread_bps_mean=2.0).count() == 10
    assert BookHour.objects.filter(synced_s=1.0, spread_bps_mean=2.0).count() == 290


def test_an_hour_without_a_book_has_no_mean(bitcoin: Instrument) -> None:
    hours_of(bitcoin, [(0, BookState(False))], until=60)
    row = BookHour.objects.get()
    assert (row.withheld_s, row.spread_bps_mean, row.spread_bps_max) == (60.0, None, None)
    assert (row.bid_depth_10_bps, row.depth_10_bps_s) == (None, 0.0)


def down(seconds: float, ended: float | None = None, reason: str = "a gap") -> Downtime:
    end = None if ended is None else NOW + timedelta(seconds=ended)
    return Downtime("binance", "BTCUSDT", NOW + timedelta(seconds=seconds), end, reason)


def test_a_downtime_is_open_until_it_ends(bitcoin: Instrument, market_now: datetime) -> None:
    store_downtimes([(bitcoin, down(0))])
    row = BookDowntime.objects.get()
    assert (row.began_at, row.ended_at, row.seconds, row.reason) == (NOW, None, None, "a gap")
    store_downtimes([(bitcoin, down(0, 4.5))])
    store_downtimes([(bitcoin, down(0))])  # what is over does not begin again
    row = BookDowntime.objects.get()
    assert row.seconds == 4.5


def test_the_next_start_ends_what_a_killed_process_left_open(
    bitcoin: Instrument, market_now: datetime
) -> None:
    other = Downtime("bybit", "BTCUSDT", NOW, None, "its own")
    store_downtimes([(bitcoin, down(0)), (bitcoin, other)])
    store_downtimes([(bitcoin, down(60, reason="not yet synchronised"))])
    store_downtimes([(bitcoin, down(60, 62, reason="not yet synchronised"))])
    lasted = BookDowntime.objects.filter(exchange="binance").order_by("began_at")
    assert [(row.seconds, row.reason) for row in lasted] == [
        (60.0, "a gap"),
        (2.0, "not yet synchronised"),
    ]
    assert BookDowntime.objects.get(exchange="bybit").ended_at is None


def test_an_end_before_the_beginning_is_none_at_all(
    bitcoin: Instrument, market_now: datetime
) -> None:
    store_downtimes([(bitcoin, down(0, -30, reason="x" * 500))])  # the clock was set back
    row = BookDowntime.objects.get()
    assert (row.seconds, len(row.reason)) == (0.0, 200)


def test_hours_and_downtimes_over_http(bitcoin: Instrument, market_now: datetime) -> None:
    hours_of(bitcoin, [(0, BookState(True, 2.0))], until=3700)
    store_downtimes([(bitcoin, down(0, 5)), (bitcoin, down(10))])
    client = APIClient()
    assert client.get("/api/v1/books/downtimes/").status_code == 401
    client.force_authenticate(make_user())
    rows = client.get("/api/v1/spreads/?period=hour&instrument=bitcoin").json()["results"]
    assert [(row["hour"], row["synced_s"]) for row in rows] == [
        ("2025-03-03T11:00:00Z", 100.0),
        ("2025-03-03T10:00:00Z", 3600.0),
    ]
    narrow = client.get("/api/v1/spreads/?period=hour&end=2025-03-03T11:00:00Z").json()
    assert narrow["results"] == rows[1:]
    paged = client.get("/api/v1/spreads/?period=hour&page_size=1").json()
    assert client.get(paged["next"]).json()["results"] == rows[1:]
    assert client.get("/api/v1/spreads/").json()["results"] == []
    assert client.get("/api/v1/spreads/?period=day").status_code == 400
    found = client.get("/api/v1/books/downtimes/").json()["results"]
    assert [(row["seconds"], row["reason"]) for row in found] == [(None, "a gap"), (5.0, "a gap")]
    assert found[1]["ended_at"] == "2025-03-03T10:30:05Z"
    address = "/api/v1/books/downtimes/?is_open="
    assert client.get(f"{address}true").json()["results"] == found[:1]
    assert client.get(f"{address}false").json()["results"] == found[1:]
    # What lasts, lasts into any later time; what was over before it began is not in it.
    later = client.get("/api/v1/books/downtimes/?start=2025-03-03T10:30:06Z").json()["results"]
    assert later == found[:1]
    earlier = client.get("/api/v1/books/downtimes/?end=2025-03-03T10:30:10Z").json()["results"]
    assert earlier == found[1:]
    assert client.get("/api/v1/books/downtimes/?exchange=nasdaq").status_code == 400


def test_the_pages_show_numbers_that_a_person_can_read(
    bitcoin: Instrument, market_now: datetime, redis_client: redis.Redis, client: Client
) -> None:
    known = {"imbalance": -0.123456, "depth_bps": {"10": [1234567.891, 300.0], "50": None}}
    quote(redis_client, "binance", AT, ask=99.81234567, is_synced=True, **known)
    services.sample_books()
    hours_of(bitcoin, [(0, BookState(True, 1.23456789))], until=1000)
    store_downtimes([(bitcoin, down(0, 5)), (bitcoin, down(10))])
    client.force_login(make_user("root", is_staff=True, is_superuser=True))
    samples = client.get("/admin/collectors/booksample/").content.decode()
    assert "1,234,568 / 300" in samples and "-0.12<" in samples and "1.237" in samples
    hours = client.get("/admin/collectors/bookhour/").content.decode()
    assert "1.235" in hours and "1,000 s" in hours and "1.23456" not in hours
    downtimes = client.get("/admin/collectors/bookdowntime/").content.decode()
    assert "5.0 s" in downtimes and "still lasts" in downtimes


@pytest.mark.parametrize(
    ("page", "time"), [("booksample", "at"), ("bookhour", "hour"), ("bookdowntime", "began_at")]
)
def test_the_pages_do_not_read_every_row_to_know_which_days_there_are(
    bitcoin: Instrument, market_now: datetime, client: Client, page: str, time: str
) -> None:
    hours_of(bitcoin, [(0, BookState(True, 1.0))], until=1000)
    store_downtimes([(bitcoin, down(0, 5))])
    client.force_login(make_user("root", is_staff=True, is_superuser=True))
    with CaptureQueriesContext(connection) as looks:
        shown = client.get(f"/admin/collectors/{page}/").content.decode()
    said = [look["sql"].lower() for look in looks]
    assert any(f'from "collectors_{page}"' in sql for sql in said)
    assert not [sql for sql in said if "trunc" in sql or "min(" in sql]
    assert f"?{time}__gte=" in shown  # a time is found by the filter instead
