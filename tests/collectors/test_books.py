"""Samples of books: from the newest quotes to rows, served and never twice."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import redis
from rest_framework.test import APIClient

from collectors import services, tasks
from collectors.marketdata import Quote
from collectors.models import BookSample, Instrument
from collectors.selectors import quote_key
from tests.collectors.providers import NOW
from tests.factories import make_user

AT = datetime(2025, 3, 3, 10, 29, 59, tzinfo=UTC)


def quote(redis_client: redis.Redis, exchange: str, at: datetime, ask: float = 100.2) -> None:
    value = Quote(
        exchange=exchange,
        symbol="BTCUSDT",
        best_bid=99.8,
        bid_quantity=2.0,
        best_ask=ask,
        ask_quantity=3.0,
        event_time=at,
        received_at=NOW,
        sequence=1,
    )
    redis_client.set(quote_key(exchange, "BTCUSDT"), msgspec.json.encode(value))


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
