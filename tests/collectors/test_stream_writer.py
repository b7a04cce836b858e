"""From what streams say to rows: one thread, the best source first, and nothing lost silently."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from collectors import clock
from collectors.bookhours import Downtime, HourPart
from collectors.feeds import StreamedCandle
from collectors.marketdata import Candle
from collectors.models import (
    BookDowntime,
    BookHour,
    FundingRate,
    Instrument,
    Ohlcv,
    QualityFinding,
)
from collectors.services import stream_writer
from collectors.services.candle_choice import CandleChoice
from collectors.services.funding_gaps import followed_symbols
from collectors.services.stream_writer import StreamWriter
from collectors.services.streaming import stream_subscriptions
from collectors.settlements import SeenSettlement

AT = datetime(2025, 3, 3, 9, tzinfo=UTC)


@pytest.fixture
def choice(bitcoin: Instrument, market_now: datetime) -> CandleChoice:
    """A choice between the exchanges that list bitcoin."""
    return CandleChoice(stream_subscriptions(at=clock.now()))


def streamed(exchange: str, close: float = 5.0) -> StreamedCandle:
    candle = Candle(
        open_time=AT, open=5.0, high=9.0, low=1.0, close=close, volume=1.0, source=exchange
    )
    return StreamedCandle(exchange, "BTCUSDT", "1h", candle)


def test_what_is_followed_is_two_looks_however_many_there_are(
    bitcoin: Instrument, market_now: datetime
) -> None:
    followed: dict[str, list[int]] = {"streams": [], "funding": []}
    for only in (["bitcoin"], None):  # None: all that the seeds enable
        if only:
            Instrument.objects.exclude(coin_id__in=only).update(is_enabled=False)
        else:
            Instrument.objects.update(is_enabled=True)
        with CaptureQueriesContext(connection) as looks:
            followed["streams"].append(len(stream_subscriptions(at=clock.now())))
        assert len(looks) == 2  # instruments and listings
        with CaptureQueriesContext(connection) as looks:
            followed["funding"].append(len(followed_symbols("binance", clock.now())))
        assert len(looks) == 2
    assert followed["streams"][0] == 2 and followed["streams"][1] >= 24
    assert followed["funding"][0] == 1 and followed["funding"][1] >= 12


def test_a_slower_better_venue_wins(choice: CandleChoice, bitcoin: Instrument) -> None:
    assert choice.due([streamed("bybit")]) == {}
    due = choice.due([streamed("binance")])
    assert [candle.source for candle in due["1h"][bitcoin]] == ["binance"]
    assert choice.due([streamed("bybit")]) == {}
    assert not choice._held


def test_a_candle_from_the_future_keeps_no_other_out(
    choice: CandleChoice, bitcoin: Instrument
) -> None:
    choice.patience_s = 0.0
    far = streamed("binance")
    far = far._replace(candle=msgspec.structs.replace(far.candle, open_time=AT.replace(year=2090)))
    choice.due([far])
    due = choice.due([streamed("bybit")])
    assert [candle.source for candle in due["1h"][bitcoin]] == ["bybit"]


@pytest.mark.django_db(transaction=True)
def test_what_never_pauses_is_stored_all_the_same(
    bitcoin: Instrument, market_now: datetime
) -> None:
    writer = StreamWriter(stream_subscriptions(at=clock.now()))
    writer.start()
    deadline = time.monotonic() + 8
    try:
        while not bitcoin.candles.exists():
            assert time.monotonic() < deadline
            writer.put(streamed("binance"))
            time.sleep(0.005)
    finally:
        writer.close()


@pytest.mark.django_db(transaction=True)
def test_a_candle_waits_for_a_clock_that_runs_behind(
    bitcoin: Instrument, market_now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_writer, "LOOK_AT_HELD_S", 0.01)
    behind = AT + timedelta(hours=1) - timedelta(seconds=0.3)
    clock.configure(clock.MarketClock(start=behind, anchor=clock.wall_now(), speed=1.0))
    stored: list[datetime] = []
    writer = StreamWriter(
        stream_subscriptions(at=clock.now()), on_stored=lambda _: stored.append(clock.now())
    )
    writer.start()
    writer.put(streamed("binance"))
    deadline = clock.wall_now() + timedelta(seconds=5)
    while not stored and clock.wall_now() < deadline:
        time.sleep(0.01)
    writer.close()
    assert stored[0] >= AT + timedelta(hours=1)
    assert Ohlcv.objects.get().open_time == AT
    assert not QualityFinding.objects.exists()


def test_a_candle_that_is_far_too_early_is_not_waited_for(
    choice: CandleChoice, bitcoin: Instrument
) -> None:
    far = AT + timedelta(minutes=58)
    clock.configure(clock.MarketClock(start=far, anchor=clock.wall_now(), speed=1.0))
    due = choice.due([streamed("binance")])
    assert len(due["1h"][bitcoin]) == 1  # storing rejects it, with a finding


@pytest.mark.django_db(transaction=True)
def test_the_writer_tries_again_when_the_database_is_away(
    bitcoin: Instrument, market_now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, failures = stream_writer.store_market, iter([True, True])

    def store_later(**options: Any) -> Any:
        if next(failures, False):
            raise OperationalError("the server closed the connection")
        return store(**options)

    monkeypatch.setattr(stream_writer, "store_market", store_later)
    monkeypatch.setattr(stream_writer, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(stream_writer, "LOOK_AT_HELD_S", 0.01)
    stored: list[int] = []
    writer = StreamWriter(stream_subscriptions(at=clock.now()), on_stored=stored.append)
    writer.start()
    writer.put(streamed("binance"))
    deadline = clock.wall_now() + timedelta(seconds=5)
    while not stored and clock.wall_now() < deadline:
        time.sleep(0.01)
    writer.close()
    assert (stored, writer.dropped) == ([1], 0)
    assert Ohlcv.objects.get().source == "binance"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("problem", [OperationalError("away"), ValueError("never storable")])
def test_what_the_writer_cannot_keep_is_counted(
    bitcoin: Instrument, market_now: datetime, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def fail(**_: Any) -> None:
        raise problem

    monkeypatch.setattr(stream_writer, "store_market", fail)
    monkeypatch.setattr(stream_writer, "MOST_WAITING", 3)
    writer = StreamWriter(stream_subscriptions(at=clock.now()))
    for _ in range(5):  # two too many
        writer.put(streamed("binance"))
    assert writer.dropped == 2
    writer.start()
    writer.close()
    assert writer.dropped == 5


@pytest.mark.django_db(transaction=True)
def test_the_writer_stores_from_its_thread(bitcoin: Instrument, market_now: datetime) -> None:
    stored: list[int] = []
    writer = StreamWriter(stream_subscriptions(at=clock.now()), on_stored=stored.append)
    writer.choice.patience_s = 0.1
    writer.start()
    writer.put(streamed("bybit"))
    deadline = clock.wall_now() + timedelta(seconds=5)
    while not stored and clock.wall_now() < deadline:
        pass
    writer.put(streamed("binance", close=6.0))
    writer.close()
    assert Ohlcv.objects.get().source == "binance"
    assert stored == [1, 1]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("order", [("bybit", "binance"), ("binance", "bybit")])
def test_closes_of_two_exchanges_that_lie_far_apart_are_flagged(
    bitcoin: Instrument, market_now: datetime, order: tuple[str, str]
) -> None:
    closes = {"binance": 5.0, "bybit": 5.2}
    writer = StreamWriter(stream_subscriptions(at=clock.now()))
    writer.start()
    for exchange in order:
        writer.put(streamed(exchange, close=closes[exchange]))
    writer.close()
    assert Ohlcv.objects.get().close == 5.0
    row = QualityFinding.objects.get()
    assert (row.verdict, row.reason, row.at) == ("flagged", "close far from another exchange", AT)
    assert (row.source, row.subject, row.instrument) == ("binance", "candles:bitcoin:1h", bitcoin)
    assert (row.values["kept"]["close"], row.values["bybit"]["close"]) == (5.0, 5.2)


@pytest.mark.django_db(transaction=True)
def test_a_rejected_message_is_recorded(bitcoin: Instrument, market_now: datetime) -> None:
    writer = StreamWriter(stream_subscriptions(at=clock.now()))
    writer.start()
    writer.reject(streamed("bybit", close=99.0), "close outside low and high")
    writer.put(streamed("binance"))
    writer.close()
    assert Ohlcv.objects.get().source == "binance"
    row = QualityFinding.objects.get()
    assert (row.verdict, row.reason, row.source) == (
        "rejected", "close outside low and high", "bybit",
    )  # fmt: skip
    assert row.values["close"] == 99.0


SETTLEMENT = SeenSettlement(
    exchange="binance",
    symbol="BTCUSDT",
    funding_time=AT - timedelta(hours=1),
    rate=1e-4,
    mark_price=100.5,
    interval_hours=None,
)


def told(writer: StreamWriter) -> None:
    """One of everything that is no candle."""
    wall = clock.wall_now()
    writer.put_settlement(SETTLEMENT)
    writer.put_downtime(Downtime("bybit", "BTCUSDT", wall, None, "a gap"))
    writer.put_downtime(Downtime("bybit", "BTCUSDT", wall, wall + timedelta(seconds=2), "a gap"))
    for _ in range(2):
        writer.put_statistics([HourPart("binance", "BTCUSDT", AT, synced_s=60.0, spread=120.0)])


@pytest.mark.django_db(transaction=True)
def test_the_writer_stores_settlements_downtimes_and_hours(
    bitcoin: Instrument, market_now: datetime
) -> None:
    writer = StreamWriter(stream_subscriptions(at=clock.now()))
    writer.start()
    told(writer)
    writer.put_settlement(msgspec.structs.replace(SETTLEMENT, symbol="NOBODYUSDT"))
    writer.close()
    assert not writer.is_alive()
    rate = FundingRate.objects.get()
    assert (rate.instrument, rate.funding_time, rate.rate, rate.mark_price, rate.is_confirmed) == (
        bitcoin, AT - timedelta(hours=1), 1e-4, 100.5, False,
    )  # fmt: skip
    assert BookDowntime.objects.get().seconds == 2.0
    row = BookHour.objects.get()
    assert (row.instrument, row.synced_s, row.spread_bps_mean) == (bitcoin, 120.0, 2.0)
    assert writer.dropped == 0


@pytest.mark.django_db(transaction=True)
def test_what_one_table_refuses_holds_up_no_other(
    bitcoin: Instrument, market_now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_writer, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(stream_writer, "LOOK_AT_HELD_S", 0.01)
    writer = StreamWriter(stream_subscriptions(at=clock.now()))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE collectors_fundingrate RENAME TO away")
    try:
        writer.start()
        told(writer)
        deadline = clock.wall_now() + timedelta(seconds=5)
        while not BookHour.objects.exists() and clock.wall_now() < deadline:
            time.sleep(0.01)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO collectors_fundingrate")
        writer.close()
    assert BookHour.objects.get().synced_s == 120.0
    assert BookDowntime.objects.get().seconds == 2.0
    assert (writer.dropped, FundingRate.objects.count()) == (1, 0)


@pytest.mark.django_db(transaction=True)
def test_rows_wait_while_the_database_is_away(
    bitcoin: Instrument, market_now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([True] * 6)

    def later(store: Any) -> Any:
        def try_to_store(rows: Any) -> object:
            if next(failures, False):
                raise OperationalError("the server closed the connection")
            return store(rows)

        return try_to_store

    for kind, store in dict(stream_writer.STORES).items():
        monkeypatch.setitem(stream_writer.STORES, kind, later(store))
    monkeypatch.setattr(stream_writer, "store_book_hours", later(stream_writer.store_book_hours))
    monkeypatch.setattr(stream_writer, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(stream_writer, "LOOK_AT_HELD_S", 0.01)
    writer = StreamWriter(stream_subscriptions(at=clock.now()))
    writer.start()
    told(writer)
    writer.put(streamed("binance"))  # does not wait behind them
    deadline = clock.wall_now() + timedelta(seconds=5)
    while not BookHour.objects.exists() and clock.wall_now() < deadline:
        time.sleep(0.01)
    writer.close()
    assert next(failures, None) is None
    assert Ohlcv.objects.count() == 1
    assert (FundingRate.objects.count(), BookDowntime.objects.count(), writer.dropped) == (1, 1, 0)
    assert BookHour.objects.get().synced_s == 120.0


@pytest.mark.django_db(transaction=True)
def test_how_a_downtime_ended_is_told_of_a_symbol_that_is_not_followed_any_more(
    bitcoin: Instrument, market_now: datetime
) -> None:
    writer = StreamWriter(stream_subscriptions(at=clock.now()))
    writer.follow([])
    writer.start()
    told(writer)
    writer.put(streamed("binance"))
    writer.close()
    assert BookDowntime.objects.get().seconds == 2.0
    assert not Ohlcv.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_statistics_are_added_up_now_and_then_and_at_the_end(
    bitcoin: Instrument, market_now: datetime
) -> None:
    def part(seconds: float) -> HourPart:
        return HourPart("binance", "BTCUSDT", AT, synced_s=seconds, spread=seconds)

    writer = StreamWriter(stream_subscriptions(at=clock.now()))
    writer.start()
    deadline = clock.wall_now() + timedelta(seconds=5)
    writer.put_statistics([part(10.0)])
    while not BookHour.objects.exists() and clock.wall_now() < deadline:
        time.sleep(0.01)
    writer.put_statistics([part(20.0)])
    writer.put_statistics([part(30.0)])
    writer.put(streamed("binance"))
    while not Ohlcv.objects.exists() and clock.wall_now() < deadline:
        time.sleep(0.01)
    assert BookHour.objects.get().synced_s == 10.0
    writer.close()
    assert (BookHour.objects.get().synced_s, writer.dropped) == (60.0, 0)
