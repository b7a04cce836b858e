"""What a worse source gave while a better one was away is replaced, and asked for only once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collectors import clock, services, tasks
from collectors.models import (
    CandleHole,
    CandleReplacement,
    CollectionState,
    Instrument,
    Ohlcv,
    SourceGap,
)
from collectors.services import coverage
from tests.collectors.providers import Venues, json_answer

HOUR = timedelta(hours=1)
END = datetime(2025, 3, 3, 10, tzinfo=UTC)  # the bar before is the newest that is closed


def cover(instrument: Instrument, **options: Any) -> services.Coverage:
    return services.ensure_coverage(
        instrument=instrument, timeframe="1h", until=clock.now(), **options
    )


def sources(instrument: Instrument) -> dict[str, int]:
    names = Ohlcv.objects.filter(instrument=instrument).values_list("source", flat=True)
    return {name: list(names).count(name) for name in set(names)}


def table(instrument: Instrument) -> list[tuple[Any, ...]]:
    rows = Ohlcv.objects.filter(instrument=instrument).order_by("open_time")
    return list(rows.values_list("open_time", "open", "high", "low", "close", "volume", "source"))


def klines(venues: Venues) -> int:
    """How often Binance was asked for candles; a repair run asks for other things, too."""
    return venues.provider.paths().count("/binance/fapi/v1/klines")


def test_an_outage_leaves_the_table_as_if_it_had_not_been(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    venues.add("bybit", "BTCUSDT", history_start, END, 101.0)
    Instrument.objects.exclude(pk=bitcoin.pk).update(is_enabled=False)
    Instrument.objects.filter(pk=bitcoin.pk).update(timeframes=["1h"])
    cover(bitcoin)
    without_outage = table(bitcoin)
    Ohlcv.objects.filter(open_time__gte=END - 6 * HOUR).delete()
    venues.failing.add("binance")
    assert cover(bitcoin, retry_worse=True).stored == 6
    assert sources(bitcoin)["bybit"] == 6
    assert CollectionState.objects.get().consecutive_failures == 1
    venues.failing.clear()
    before = klines(venues)
    tasks.backfill_all()
    assert table(bitcoin) == without_outage
    assert klines(venues) == before + 1
    assert not CandleHole.objects.exists()
    reasons = CandleReplacement.objects.values_list("reason", "old_source", "new_source")
    assert list(reasons) == [("better source", "bybit", "binance")] * 6
    tasks.backfill_all()
    assert klines(venues) == before + 1


def test_what_the_better_source_does_not_have_is_asked_for_once(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    venues.add("bybit", "BTCUSDT", history_start, END, 101.0)
    gap = END - 30 * HOUR
    for hour in range(3):
        del venues.bars["binance", "BTCUSDT"][gap + hour * HOUR]
    cover(bitcoin)
    asked = venues.calls("binance")
    assert cover(bitcoin, retry_worse=True).replaced == 0
    assert venues.calls("binance") == asked + 1
    run = SourceGap.objects.get()
    assert (run.source, run.start, run.end) == ("binance", gap, gap + 2 * HOUR)
    assert cover(bitcoin, retry_worse=True).requests == 0
    assert venues.calls("binance") == asked + 1


def test_a_repair_looks_back_a_week_and_a_backfill_over_its_span(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("bybit", "BTCUSDT", history_start, END, 101.0)
    venues.failing.add("binance")
    cover(bitcoin)
    venues.failing.clear()
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    assert 24 * 7 - 1 <= cover(bitcoin, retry_worse=True).replaced <= 24 * 7
    cover(bitcoin, retry_worse=True, start=history_start)
    assert sources(bitcoin) == {"binance": (END - history_start) // HOUR}


def test_a_symbol_of_before_is_asked_too(bitcoin: Instrument, venues: Venues) -> None:
    render = Instrument.objects.get(coin_id="render-token")
    start, end = datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 6, 2, tzinfo=UTC)
    venues.add("bybit", "RENDERUSDT", start, end, 7.0)
    cover(render, start=start)
    venues.add("binance", "RNDRUSDT", start, end - HOUR, 8.0)
    assert cover(render, start=start, retry_worse=True).replaced == 23
    run = SourceGap.objects.get()
    assert (run.source, run.start, run.end) == ("binance", end - HOUR, end - HOUR)


def test_a_bar_is_pending_while_a_source_that_may_have_it_is_away(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("bybit", "BTCUSDT", history_start, END, 101.0)
    lone = END - 40 * HOUR
    del venues.bars["bybit", "BTCUSDT"][lone]
    venues.failing.add("binance")
    assert cover(bitcoin).pending == 1
    assert CandleHole.objects.get().label == "pending"
    venues.failing.clear()
    venues.add("binance", "BTCUSDT", lone, lone + HOUR, 100.0)
    assert cover(bitcoin).stored == 1
    assert not CandleHole.objects.exists()


def test_a_bar_is_pending_while_a_source_that_may_have_it_refuses_unreadably(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("bybit", "BTCUSDT", history_start, END, 101.0)
    lone = END - 40 * HOUR
    del venues.bars["bybit", "BTCUSDT"][lone]
    klines = "/binance/fapi/v1/klines"
    venues.provider.routes[klines] = lambda _: json_answer({"code": -9999, "msg": "odd"}, 400)
    assert cover(bitcoin).pending == 1
    venues.provider.routes[klines] = venues.binance
    venues.add("binance", "BTCUSDT", lone, lone + HOUR, 100.0)
    assert cover(bitcoin).stored == 1
    assert not CandleHole.objects.exists()


@pytest.mark.parametrize("by_chain", [False, True])
def test_a_worse_source_alone_takes_nothing_from_a_better_one(
    bitcoin: Instrument, venues: Venues, history_start: datetime, settings: Any, by_chain: bool
) -> None:
    everybody, chain = settings.CANDLE_SOURCES, bitcoin.source_chain
    venues.provider.routes["/coingecko/coins/bitcoin/market_chart/range"] = venues.coingecko
    venues.add("coingecko", "tether", history_start, END, 102.0)  # what any coin is answered
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    cover(bitcoin)
    before = table(bitcoin)
    if by_chain:
        bitcoin.source_chain = ["coingecko"]
    else:
        settings.CANDLE_SOURCES = ("coingecko",)
    cover(bitcoin, retry_worse=True, start=history_start)
    assert table(bitcoin) == before
    Ohlcv.objects.filter(open_time__gte=END - 20 * HOUR).delete()
    cover(bitcoin, retry_worse=True)
    assert sources(bitcoin)["coingecko"] == 20
    settings.CANDLE_SOURCES, bitcoin.source_chain = everybody, chain
    cover(bitcoin, retry_worse=True)
    assert table(bitcoin) == before


def test_a_long_history_is_worked_off_in_chunks(
    bitcoin: Instrument, venues: Venues, history_start: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "CHUNK_BARS", 400)
    listed = history_start + 900 * HOUR
    venues.add("binance", "BTCUSDT", listed, END, 100.0)
    stored: list[tuple[int, int]] = []
    result = cover(bitcoin, on_progress=lambda asked: stored.append((asked, Ohlcv.objects.count())))
    bars = (END - history_start) // HOUR
    assert stored == [(asked, max(asked - 900, 0)) for asked in (*range(400, bars, 400), bars)]
    assert result.is_complete
    assert result.stored == bars - 900
    assert CollectionState.objects.get().history_from == listed
    assert not CandleHole.objects.exists()


def test_a_source_that_is_down_is_not_asked_for_every_chunk(
    bitcoin: Instrument, venues: Venues, history_start: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "CHUNK_BARS", 400)
    venues.failing.add("binance")
    venues.add("bybit", "BTCUSDT", history_start, END, 101.0)
    assert len(cover(bitcoin).errors) == 1
    assert venues.calls("binance") == 3  # the attempts of one request
    assert sources(bitcoin) == {"bybit": (END - history_start) // HOUR}
