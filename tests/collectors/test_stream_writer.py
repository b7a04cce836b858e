"""From what streams say to rows: one thread, the best source first, and nothing lost silently."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError

from collectors import clock
from collectors.feeds import StreamedCandle
from collectors.marketdata import Candle
from collectors.models import Instrument, Ohlcv, QualityFinding
from collectors.services import stream_writer
from collectors.services.candle_choice import CandleChoice
from collectors.services.stream_writer import StreamWriter
from collectors.services.streaming import stream_subscriptions

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


def test_a_slower_better_venue_wins(choice: CandleChoice, bitcoin: Instrument) -> None:
    assert choice.due([streamed("bybit")]) == {}
    due = choice.due([streamed("binance")])
    assert [candle.source for candle in due["1h"][bitcoin]] == ["binance"]
    assert choice.due([streamed("bybit")]) == {}
    assert not choice._held


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
