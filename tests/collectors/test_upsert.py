"""Batches of candles end in the table as the rules say, on either database and at any size."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors import events, pgcopy, services
from collectors.columns import batch_of, possible
from collectors.marketdata import Candle
from collectors.models import Instrument, Ohlcv, QualityFinding, Series
from collectors.quality import check_candle
from tests.collectors.stored import START, on_sqlite, play

HOUR = timedelta(hours=1)
PRICES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, -1.0, float("nan"), float("inf"), -float("inf")]),
    st.floats(),
)
MOMENTS = st.one_of(
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(-50, 50).map(lambda minutes: START + timedelta(minutes=30 * minutes)),
)


@given(
    st.lists(
        st.builds(
            Candle,
            open_time=MOMENTS,
            open=PRICES,
            high=PRICES,
            low=PRICES,
            close=PRICES,
            volume=st.none() | PRICES,
            source=st.sampled_from(["binance", "bybit"]),
        )
    ),
    st.sampled_from(["15m", "1h", "1d"]),
)
@settings(deadline=None)
def test_columns_are_judged_as_candles_are(candles: list[Candle], timeframe: str) -> None:
    judged = possible(batch_of([candles]), timeframe=timeframe, now=START)
    reasons = [check_candle(candle, timeframe=timeframe, now=START) for candle in candles]
    assert judged.tolist() == [reason is None for reason in reasons]


@pytest.mark.django_db
@given(seed=st.integers(0, 2**32))
@settings(
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_table_follows_the_rules(market_now: datetime, seed: int) -> None:
    for model in (Ohlcv, Series, QualityFinding):
        model.objects.all().delete()
    assert play(seed).rows


def test_the_table_follows_the_rules_on_sqlite(sqlite_folder: Path) -> None:
    output = on_sqlite(sqlite_folder, "print(play(7).replacements.total())")
    assert int(output) > 50


def hours(count: int, *, first: int = 0, **values: Any) -> list[Candle]:
    candle = Candle(
        open_time=START, open=2.0, high=3.0, low=1.0, close=2.0, volume=5.0, source="binance"
    )
    return [
        msgspec.structs.replace(candle, open_time=START + (first + hour) * HOUR, **values)
        for hour in range(count)
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("count", [1, 2000])
def test_only_a_change_raises_the_revision_and_is_announced(
    bitcoin: Instrument, count: int
) -> None:
    heard: list[list[str]] = []

    def listen(coin_ids: list[str], **_: Any) -> None:
        # After the commit: the rows are there for everybody.
        assert not connection.in_atomic_block
        heard.append(coin_ids)

    events.candles_stored.connect(listen)
    try:
        series = Series.objects.filter(key="candles:bitcoin:1h").values_list(
            "revision", "rewritten_revision"
        )
        for candles, expected in (
            (hours(count), (1, 0)),
            (hours(count), (1, 0)),
            (hours(count, source="bybit"), (1, 0)),
            (hours(count, first=count), (2, 0)),
            (hours(count, first=count, close=2.5), (3, 3)),
            (hours(1, first=-1), (4, 4)),
            (hours(count + 1, first=2 * count), (5, 4)),
        ):
            services.store_candles(instrument=bitcoin, timeframe="1h", candles=candles)
            assert list(series.all()) == [expected]
    finally:
        events.candles_stored.disconnect(listen)
    assert heard == [["bitcoin"]] * 5


@pytest.mark.django_db
def test_a_tick_of_many_series_takes_as_many_queries_as_that_of_one(
    bitcoin: Instrument, market_now: datetime
) -> None:
    instruments = list(Instrument.objects.all())
    assert len(instruments) > 10
    counts = []
    for hour, stored in enumerate(([bitcoin], [bitcoin], instruments, instruments)):
        candles = {instrument: hours(1, first=hour) for instrument in stored}
        with CaptureQueriesContext(
            connection,
        ) as queries:
            result = services.store_market(timeframe="1h", candles=candles)
        assert result.inserted == len(stored)
        counts.append(len(queries))
    assert counts[1] == counts[3] <= 10
    with CaptureQueriesContext(connection) as queries:
        assert services.store_market(timeframe="1h", candles=candles).unchanged == len(instruments)
    assert len(queries) == 1


@pytest.mark.parametrize("decode", [pgcopy.decode, pgcopy.decode_columns])
def test_a_copy_that_is_none_is_refused(decode: Callable[..., Any]) -> None:
    fields = [("at", ">i8"), ("price", ">f8")]
    values = {"at": np.arange(3, dtype=">i8"), "price": np.linspace(0.1, 0.3, 3).astype(">f8")}
    whole = pgcopy.HEADER + pgcopy.encode(values, 3) + pgcopy.TRAILER
    rows = decode(whole, fields)
    assert rows["at"].tolist() == [0, 1, 2]
    assert rows["price"].tolist() == np.linspace(0.1, 0.3, 3).tolist()
    for broken in (
        b"",
        whole[:-1],
        b"x" + whole[1:],
        whole.replace(b"\0\2\0\0\0\10", b"\0\3\0\0\0\10"),
    ):
        with pytest.raises(pgcopy.CopyFormatError):
            decode(broken, fields)


@pytest.mark.parametrize("rows", [0, 1, pgcopy.BLOCK, 2 * pgcopy.BLOCK + 1])
def test_columns_are_those_of_the_records(rows: int) -> None:
    fields = [("at", ">i8"), ("price", ">f8"), ("mark", "i1")]
    rng = np.random.default_rng(rows)
    values = {
        "at": rng.integers(-9, 9, rows).astype(">i8"),
        "price": rng.random(rows).astype(">f8"),
        "mark": rng.integers(-9, 9, rows).astype("i1"),
    }
    content = pgcopy.HEADER + pgcopy.encode(values, rows) + pgcopy.TRAILER
    columns = pgcopy.decode_columns(content, fields)
    for name, column in columns.items():
        assert column.dtype.isnative
        assert column.tolist() == values[name].tolist()
