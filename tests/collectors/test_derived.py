"""4h and 1d candles are made from hourly ones on reading, and say so."""

from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
import redis
from django.urls import include, path
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from collectors import api, services
from collectors.columns import CandleColumns
from collectors.derived import derive
from collectors.marketdata import Candle
from collectors.models import CandleHole, Instrument, Ohlcv
from collectors.selectors import candle_history, live
from collectors.services import livecopies
from collectors.services.livecopies import market_key
from collectors.sources import VOLUME_CODES
from collectors.spans import Span
from tests.collectors.stored import START
from tests.factories import make_user

urlpatterns = [path("api/v1/", include(api.urlpatterns))]
HOUR = timedelta(hours=1)
HOUR_MS = 3_600_000
BARS = {"4h": 4, "1d": 24}


@given(
    hours=st.dictionaries(
        st.integers(0, 60),
        st.tuples(
            *[st.integers(1, 99)] * 4,
            st.none() | st.integers(0, 9),
            st.integers(0, 2),
            st.booleans(),
        ),
    ),
    excused=st.sets(st.integers(0, 60)),
    timeframe=st.sampled_from(sorted(BARS)),
)
def test_a_bar_is_made_when_every_hour_is_there_or_had_no_trade(
    hours: dict[int, tuple[Any, ...]], excused: set[int], timeframe: str
) -> None:
    rows = [(hour, *values) for hour, values in sorted(hours.items())]
    column = [np.array([row[at] for row in rows]) for at in range(8)]
    made = derive(
        CandleColumns(
            open_time=column[0].astype(np.int64) * HOUR_MS,
            open=column[1].astype(float),
            high=column[2].astype(float),
            low=column[3].astype(float),
            close=column[4].astype(float),
            volume=column[5].astype(float),
            volume_source=column[6].astype(np.int8),
            sampled=column[7].astype(bool),
        ),
        timeframe=timeframe,
        no_trade=[Span(hour * HOUR_MS, (hour + 1) * HOUR_MS) for hour in excused],
    )
    expected = []
    for bar in range(0, 61, BARS[timeframe]):
        there = [hours[hour] for hour in range(bar, bar + BARS[timeframe]) if hour in hours]
        known = hours.keys() | excused
        if there and all(hour in known for hour in range(bar, bar + BARS[timeframe])):
            opens, highs, lows, closes, volumes, sources, sampled = zip(*there, strict=True)
            volume = None if None in volumes else float(sum(volumes))
            prices = opens[0], max(highs), min(lows), closes[-1]
            source = sources[0] if len(set(sources)) == 1 else 0
            expected.append((bar, *prices, volume, source, any(sampled)))
    assert expected == [
        (time // HOUR_MS, *prices, None if np.isnan(volume) else volume, source, sampled)
        for time, *prices, volume, source, sampled in zip(
            *(getattr(made, name).tolist() for name in vars(made)), strict=True
        )
    ]


def store(instrument: Instrument, hours: list[int], **values: Any) -> None:
    candles = [
        Candle(
            open_time=START + hour * HOUR,
            open=10.0 + hour,
            high=20.0 + hour,
            low=5.0 + hour,
            close=11.0 + hour,
            volume=2.0,
            source="binance",
        )
        for hour in hours
    ]
    candles = [msgspec.structs.replace(candle, **values) for candle in candles]
    services.store_candles(instrument=instrument, timeframe="1h", candles=candles)


@pytest.fixture
def four_hours(bitcoin: Instrument) -> Instrument:
    """Bars of 4 hours: whole, without its third hour, whole but for a lack of trade, of two
    sources, stored as they are, and forming."""
    store(bitcoin, [0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14, 16])
    store(bitcoin, [15], source="coingecko", volume=None, is_sampled=True)
    labels = {10: "no_trade", 6: "unrepairable"}
    for hour, label in labels.items():
        at = START + hour * HOUR
        CandleHole.objects.create(
            instrument=bitcoin, timeframe="1h", start=at, end=at, label=label, seen_at=at
        )
    stored = Candle(
        open_time=START + 20 * HOUR, open=1.0, high=3.0, low=0.5, close=2.0, volume=9.0,
        source="bybit",
    )  # fmt: skip
    services.store_candles(instrument=bitcoin, timeframe="4h", candles=[stored])
    return bitcoin


@pytest.mark.django_db
def test_the_history_is_derived(four_hours: Instrument) -> None:
    matrix = candle_history(
        instruments=["bitcoin"], timeframe="4h", start=START, end=START + 24 * HOUR
    )
    assert matrix.valid[:, 0].tolist() == [True, False, True, True, False, True]
    assert matrix.derived[:, 0].tolist() == [True, False, True, True, False, False]
    assert matrix.open[:, 0].tolist() == [10.0, 14.0, 18.0, 22.0, 26.0, 1.0]
    assert matrix.high[:, 0].tolist() == [23.0, 14.0, 31.0, 35.0, 26.0, 3.0]
    assert matrix.low[:, 0].tolist() == [5.0, 14.0, 13.0, 17.0, 26.0, 0.5]
    assert matrix.close[:, 0].tolist() == [14.0, 14.0, 22.0, 26.0, 26.0, 2.0]
    assert matrix.volume[:, 0].tolist() == [8.0, 0.0, 6.0, 0.0, 0.0, 9.0]
    assert matrix.has_volume[:, 0].tolist() == [True, False, True, False, False, True]
    binance, bybit = VOLUME_CODES["binance"], VOLUME_CODES["bybit"]
    assert matrix.volume_source[:, 0].tolist() == [binance, 0, binance, 0, 0, bybit]
    assert matrix.sampled[:, 0].tolist() == [False, False, False, True, False, False]
    hourly = candle_history(
        instruments=["bitcoin"], timeframe="1h", start=START, end=START + 24 * HOUR
    )
    assert not hourly.derived.any()


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_derived_candles_are_served_with_their_sources(four_hours: Instrument) -> None:
    client = APIClient()
    client.force_authenticate(make_user("viewer", role="viewer"))
    query = {"instrument": "bitcoin", "timeframe": "4h", "page_size": 3}
    page = client.get("/api/v1/candles/", query).json()
    rest = client.get(page["next"]).json()
    assert rest["next"] is None
    served = page["results"] + rest["results"]
    assert [row["open_time"][11:13] for row in served] == ["00", "08", "12", "20"]
    assert [row["source"] for row in served] == [
        "binance", "binance", "binance,coingecko", "bybit",
    ]  # fmt: skip
    assert [row["is_derived"] for row in served] == [True, True, True, False]
    assert [row["volume"] for row in served] == [8.0, 6.0, None, 9.0]
    assert served[2]["is_sampled"] is True
    assert client.get(rest["previous"]).json()["results"] == page["results"]
    query |= {"start": "2025-03-01T00:00:01Z", "end": "2025-03-01T12:00:00Z"}
    (only,) = client.get("/api/v1/candles/", query).json()["results"]
    assert only["open_time"] == "2025-03-01T08:00:00Z"
    for cursor in ("cD1hYmM=", "cD0yMDI1LTEzLTQ1"):  # p=abc, p=2025-13-45
        query["cursor"] = cursor
        assert client.get("/api/v1/candles/", query).status_code == 404
    hourly = client.get("/api/v1/candles/", {"instrument": "bitcoin"}).json()["results"]
    assert {row["is_derived"] for row in hourly} == {False}


@pytest.mark.django_db(transaction=True)
def test_the_newest_candle_is_kept_for_live_readers(
    bitcoin: Instrument, redis_client: redis.Redis
) -> None:
    key = market_key("BTC", "1h")
    store(bitcoin, [0, 1, 2])
    store(bitcoin, [-5])
    said = msgspec.json.decode(redis_client.get(key))
    assert said["open_time"] == "2025-03-01T02:00:00Z"
    assert (said["close"], said["source"], said["timeframe"]) == (13.0, "binance", "1h")
    assert 1700 < redis_client.ttl(key) <= 1800
    store(bitcoin, [2], close=14.0)
    assert msgspec.json.decode(redis_client.get(key))["close"] == 14.0


@pytest.mark.django_db(transaction=True)
def test_a_lost_redis_does_not_keep_candles_from_being_stored(
    bitcoin: Instrument, settings: Any
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    live.redis_client.cache_clear()
    try:
        store(bitcoin, [0, 1, 2])
    finally:
        live.redis_client.cache_clear()
        livecopies._pause.until = 0.0
    assert Ohlcv.objects.count() == 3
