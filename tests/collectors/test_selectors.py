"""What the other apps read: aligned candles without NaN, listings, quotes."""

import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
import redis
import structlog

from collectors import selectors, services
from collectors.marketdata import Candle, Quote, to_ms
from collectors.models import Instrument, Listing
from collectors.selectors import live

START = datetime(2025, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def store(coin_id: str, hours: list[int], *, volume: float | None = 2.0) -> None:
    candles = [
        Candle(
            open_time=START + hour * HOUR,
            open=100.0 + hour,
            high=110.0 + hour,
            low=90.0 + hour,
            close=105.0 + hour,
            volume=volume,
            source="coingecko" if volume is None else "binance",
            is_sampled=volume is None,
        )
        for hour in hours
    ]
    instrument = Instrument.objects.get(coin_id=coin_id)
    services.store_candles(instrument=instrument, timeframe="1h", candles=candles)


def test_the_matrix_carries_holes_and_the_time_before(
    bitcoin: Instrument, market_now: datetime
) -> None:
    store("bitcoin", [-1, 0, 1, 4])
    store("tether", [2, 3], volume=None)
    matrix = selectors.candle_history(
        instruments=["tether", "bitcoin", "solana"],
        timeframe="1h",
        start=START,
        end=START + 6 * HOUR,
    )
    assert matrix.open_time.tolist() == [to_ms(START + hour * HOUR) for hour in range(6)]
    assert matrix.valid[:, 1].tolist() == [True, True, False, False, True, False]
    assert matrix.close[:, 1].tolist() == [105.0, 106.0, 106.0, 106.0, 109.0, 109.0]
    assert matrix.open[:, 1].tolist() == [100.0, 101.0, 106.0, 106.0, 104.0, 109.0]
    assert matrix.volume[:, 1].tolist() == [2.0, 2.0, 0.0, 0.0, 2.0, 0.0]
    assert matrix.close[:, 0].tolist() == [102.0, 102.0, 107.0, 108.0, 108.0, 108.0]
    assert matrix.sampled[:, 0].tolist() == [False, False, True, True, False, False]
    assert not matrix.volume[:, 0].any()
    assert not matrix.valid[:, 2].any()
    assert np.isfinite(matrix.close).all()


def test_a_hole_at_the_beginning_carries_the_close_before_it(
    bitcoin: Instrument, market_now: datetime
) -> None:
    store("bitcoin", [0, 2])
    matrix = selectors.candle_history(
        instruments=["bitcoin"], timeframe="1h", start=START + HOUR, end=START + 3 * HOUR
    )
    assert matrix.high[:, 0].tolist() == [105.0, 112.0]
    assert matrix.valid[:, 0].tolist() == [False, True]


def test_a_row_is_the_same_whatever_the_window(bitcoin: Instrument, market_now: datetime) -> None:
    store("bitcoin", [0, 1, 3, 4, 8])
    whole = selectors.candle_history(
        instruments=["bitcoin"], timeframe="1h", start=START, end=START + 10 * HOUR
    )
    for first in range(10):
        part = selectors.candle_history(
            instruments=["bitcoin"],
            timeframe="1h",
            start=START + first * HOUR,
            end=START + 10 * HOUR,
        )
        for name in ("open", "high", "low", "close", "volume", "valid"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[first:])


def test_an_unknown_coin_and_an_empty_window(bitcoin: Instrument) -> None:
    with pytest.raises(Instrument.DoesNotExist, match="nocoin"):
        selectors.candle_history(instruments=["nocoin"], timeframe="1h", start=START, end=START)
    empty = selectors.candle_history(
        instruments=["bitcoin"], timeframe="1h", start=START, end=START
    )
    assert empty.close.shape == (0, 1)


@pytest.mark.django_db
def test_the_settings_order_the_seeded_sources(settings: Any) -> None:
    settings.CANDLE_SOURCES = ("bybit", "binance")
    services.seed_instruments()
    chains = dict(Instrument.objects.values_list("coin_id", "source_chain"))
    assert chains["bitcoin"] == ["bybit", "binance", "coingecko"]
    assert chains["tether"] == ["coingecko"]


def test_symbols_follow_their_validity(bitcoin: Instrument) -> None:
    render = Instrument.objects.get(coin_id="render-token")
    for year in (2022, 2025):
        at = datetime(year, 1, 1, tzinfo=UTC)
        listing = selectors.listing_for(instrument=render, exchange="binance", at=at)
        assert listing is not None
        assert listing.symbol == "RENDERUSDT"
    agix = Instrument.objects.get(coin_id="singularitynet")
    assert selectors.listing_for(instrument=agix, exchange="bybit", at=START) is None
    listed = [item.coin_id for item in selectors.strategy_instruments(at=START)]
    assert len(listed) == 12
    assert not {"tether", "singularitynet", "ocean-protocol"} & set(listed)
    Listing.objects.all().delete()
    assert selectors.strategy_instruments(at=START) == []


def test_the_newest_quote_is_read_from_redis(redis_client: redis.Redis) -> None:
    assert selectors.latest_quote(exchange="binance", symbol="BTCUSDT") is None
    quote = Quote(
        exchange="binance",
        symbol="BTCUSDT",
        best_bid=1.0,
        bid_quantity=2.0,
        best_ask=3.0,
        ask_quantity=4.0,
        event_time=START,
        received_at=START,
        sequence=5,
    )
    stored = msgspec.json.encode({**msgspec.structs.asdict(quote), "is_synced": False})
    redis_client.set("orderbook:binance:BTCUSDT", stored)
    assert selectors.latest_quote(exchange="binance", symbol="BTCUSDT") == quote
    null, zero = stored.replace(b"3.0", b"null"), stored.replace(b"3.0", b"0.0")
    for broken in (b"{}", b"nonsense", null, zero, b"[" * 100_000, b"\xff"):
        redis_client.set("orderbook:binance:BTCUSDT", broken)
        assert selectors.latest_quote(exchange="binance", symbol="BTCUSDT") is None


@pytest.fixture
def lost_redis(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A Redis that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        settings.REDIS_URL = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        monkeypatch.setattr(live, "REDIS_TIMEOUT_S", 0.1)
        live.redis_client.cache_clear()
        yield server
    live.redis_client.cache_clear()
    live._quote_store = live._QuoteStore()


def test_a_redis_that_does_not_answer_reads_as_no_quote(lost_redis: socket.socket) -> None:
    started = time.monotonic()
    with structlog.testing.capture_logs() as logged:
        for _ in range(100):
            assert selectors.latest_quote(exchange="binance", symbol="BTCUSDT") is None
    assert time.monotonic() - started < 1
    assert [line["event"] for line in logged] == ["quotes_not_readable"]


@pytest.mark.django_db
def test_exchanges_come_before_samples_where_they_are_not_allowed_yet(settings: Any) -> None:
    settings.CANDLE_SOURCES = ("coingecko",)
    services.seed_instruments()
    chain = Instrument.objects.get(coin_id="bitcoin").source_chain
    assert chain == ["binance", "bybit", "coingecko"]
