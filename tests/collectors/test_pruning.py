"""Forgotten candles stay forgotten: collection begins after them."""

from datetime import datetime, timedelta

from collectors.models import CollectionState, Instrument, Ohlcv
from collectors.services import ensure_coverage, prune_candles
from tests.collectors.providers import NOW, Venues


def test_pruned_bars_are_not_fetched_again(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    Instrument.objects.filter(pk=bitcoin.pk).update(source_chain=["binance"])
    bitcoin.refresh_from_db()
    venues.add("binance", "BTCUSDT", history_start, NOW + timedelta(hours=9), 100.0)
    ensure_coverage(instrument=bitcoin, timeframe="1h", until=NOW)
    whole = Ohlcv.objects.count()
    assert whole > 1000
    before = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=30)
    newest = Ohlcv.objects.latest("open_time").pk
    deleted = prune_candles(before=before, newest_id=newest)
    assert deleted == (before - history_start) // timedelta(hours=1)
    assert Ohlcv.objects.count() == whole - deleted
    calls = venues.calls("binance")
    assert ensure_coverage(instrument=bitcoin, timeframe="1h", until=NOW).stored == 0
    assert venues.calls("binance") == calls
    state = CollectionState.objects.get(instrument=bitcoin, timeframe="1h")
    assert state.history_from == before
    # What a backfill names, it gets.
    start = before - timedelta(hours=5)
    ensure_coverage(instrument=bitcoin, timeframe="1h", until=NOW, start=start)
    assert Ohlcv.objects.count() == whole - deleted + 5


def test_a_series_with_nothing_old_is_left_alone(bitcoin: Instrument) -> None:
    assert prune_candles(before=NOW) == 0
    assert not CollectionState.objects.exists()


def test_a_row_that_came_after_the_archive_stays(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("binance", "BTCUSDT", history_start, NOW, 100.0)
    ensure_coverage(instrument=bitcoin, timeframe="1h", until=NOW)
    last = Ohlcv.objects.earliest("open_time")
    assert prune_candles(before=NOW, newest_id=last.pk) == 1
