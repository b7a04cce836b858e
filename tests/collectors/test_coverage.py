"""Collection as gap repair: exactly what is lacking, from the best source that has it."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.db import connection
from django.db.models import F

from collectors import clock, events, selectors, services
from collectors.marketdata import Candle, candle_key
from collectors.models import (
    CandleHole,
    CandleReplacement,
    CollectionState,
    Instrument,
    Ohlcv,
    ProviderCallMinute,
    RetentionPolicy,
)
from collectors.selectors import missing_at, revisions
from collectors.services import coverage, leases
from tests.collectors.providers import Answer, Provider, Venues, json_answer

HOUR = timedelta(hours=1)
LAST = datetime(2025, 3, 3, 9, tzinfo=UTC)  # the newest bar closed at NOW
END = LAST + HOUR


def cover(instrument: Instrument, **options: Any) -> services.Coverage:
    return services.ensure_coverage(
        instrument=instrument, timeframe="1h", until=clock.now(), **options
    )


def stored(instrument: Instrument, source: str) -> int:
    return Ohlcv.objects.filter(instrument=instrument, source=source).count()


def test_the_default_history_is_fetched_once(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("binance", "BTCUSDT", history_start, END + HOUR, 100.0)  # the forming bar too
    first = cover(bitcoin)
    assert first.is_complete
    assert first.stored == (END - history_start) // HOUR
    assert Ohlcv.objects.latest("open_time").open_time == LAST
    calls = venues.calls("binance")
    assert cover(bitcoin).requests == 0
    assert venues.calls("binance") == calls == 2  # two pages of 1500
    rows = ProviderCallMinute.objects.all()
    assert (sum(row.calls for row in rows), sum(row.weight for row in rows)) == (2, 12)


def test_only_the_gap_is_asked_for(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    cover(bitcoin)
    gap = history_start + 50 * HOUR
    Ohlcv.objects.filter(open_time__gte=gap, open_time__lt=gap + 3 * HOUR).delete()
    before = venues.calls("binance")
    assert cover(bitcoin).stored == 3
    assert venues.calls("binance") == before + 1
    assert venues.provider.requests[-1][1]["limit"] == "3"


def test_a_correction_that_comes_with_a_gap_is_taken(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    cover(bitcoin)
    gap = [LAST - 3 * HOUR, LAST - 5 * HOUR]
    Ohlcv.objects.filter(open_time__in=gap).delete()
    corrected = LAST - 4 * HOUR  # between the two, so that it is in the same answer
    venues.bars["binance", "BTCUSDT"][corrected] = 99.0
    result = cover(bitcoin)
    assert (result.stored, result.replaced, result.requests) == (2, 1, 1)
    assert Ohlcv.objects.get(open_time=corrected).close == 99.0
    assert CandleReplacement.objects.get().reason == "correction"


def test_the_next_source_fills_what_the_best_lacks(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("binance", "BTCUSDT", history_start + 10 * HOUR, END, 100.0)
    venues.add("bybit", "BTCUSDT", history_start, END, 101.0)
    assert cover(bitcoin).is_complete
    assert stored(bitcoin, "bybit") == 10
    assert stored(bitcoin, "binance") == (END - history_start) // HOUR - 10


def test_the_symbol_that_is_valid_longest_is_asked_first(
    bitcoin: Instrument, venues: Venues, settings: Any
) -> None:
    render = Instrument.objects.get(coin_id="render-token")
    ended = datetime(2023, 1, 1, tzinfo=UTC)
    render.listings.create(
        exchange="binance", symbol="OLD", valid_to=ended, tick_size="1", quantity_step="1"
    )
    settings.CANDLE_SOURCES = ("binance",)
    services.ensure_coverage(instrument=render, timeframe="1h", until=ended, start=ended - 2 * HOUR)
    asked = [params["symbol"] for _, params in venues.provider.requests]
    assert asked == ["RENDERUSDT", "RNDRUSDT", "OLD"]


def test_an_outage_moves_on_to_the_next_source_and_is_reported(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("bybit", "BTCUSDT", history_start, END, 101.0)
    venues.failing.add("binance")
    result = cover(bitcoin)
    assert stored(bitcoin, "bybit") == result.stored == (END - history_start) // HOUR
    assert "binance" in result.errors[0]
    assert CollectionState.objects.get(instrument=bitcoin).consecutive_failures == 1


def test_a_better_source_replaces_a_worse_and_says_so(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    candle = Candle(
        open_time=LAST, open=9.0, high=9.0, low=9.0, close=9.0, volume=1.0, source="bybit"
    )
    better = msgspec.structs.replace(candle, source="binance", close=9.0)
    assert services.store_candles(instrument=bitcoin, timeframe="1h", candles=[candle]).inserted
    assert services.store_candles(instrument=bitcoin, timeframe="1h", candles=[better]).replaced
    assert services.store_candles(instrument=bitcoin, timeframe="1h", candles=[candle]).unchanged
    assert Ohlcv.objects.get().source == "binance"
    correction = msgspec.structs.replace(better, high=10.0)
    assert services.store_candles(instrument=bitcoin, timeframe="1h", candles=[correction]).replaced
    reasons = CandleReplacement.objects.order_by("pk").values_list("reason", flat=True)
    assert list(reasons) == ["better source", "correction"]


def test_a_bar_that_no_venue_has_is_labelled_and_not_asked_again(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    gap = history_start + 20 * HOUR
    for hours in range(3):
        del venues.bars["binance", "BTCUSDT"][gap + hours * HOUR]
    result = cover(bitcoin)
    assert (result.no_trade, result.pending) == (3, 0)
    hole = CandleHole.objects.get()
    assert (hole.start, hole.end, hole.label) == (gap, gap + 2 * HOUR, "no_trade")
    assert missing_at(instruments=[bitcoin], timeframe="1h", open_time=gap) == []
    assert cover(bitcoin).requests == 0
    venues.add("binance", "BTCUSDT", gap + HOUR, gap + 2 * HOUR, 100.0)
    assert cover(bitcoin, retry_labelled=True).stored == 1
    spans = CandleHole.objects.order_by("start").values_list("start", "end")
    assert list(spans) == [(gap, gap), (gap + 2 * HOUR, gap + 2 * HOUR)]


def test_what_could_not_be_asked_stays_pending_and_heals(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.failing.add("binance")
    result = cover(bitcoin)
    assert result.pending == (END - history_start) // HOUR
    assert CandleHole.objects.get().label == "pending"
    assert missing_at(instruments=[bitcoin], timeframe="1h", open_time=LAST) == ["bitcoin"]
    venues.failing.clear()
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    assert cover(bitcoin).is_complete
    assert not CandleHole.objects.exists()


def test_nothing_is_required_before_the_first_bar_of_any_source(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    listed = history_start + 100 * HOUR
    venues.add("binance", "BTCUSDT", listed, END, 100.0)
    assert cover(bitcoin).is_complete
    assert not CandleHole.objects.exists()
    assert CollectionState.objects.get(instrument=bitcoin).history_from == listed
    before = listed - HOUR
    assert missing_at(instruments=[bitcoin], timeframe="1h", open_time=before) == []
    assert cover(bitcoin).requests == 0


def test_a_coin_that_nobody_has_is_asked_for_once_a_day(
    bitcoin: Instrument, venues: Venues
) -> None:
    cover(bitcoin)
    calls = len(venues.provider.requests)
    assert not CandleHole.objects.exists()
    assert missing_at(instruments=[bitcoin], timeframe="1h", open_time=LAST) == []
    assert cover(bitcoin).requests == 0
    assert len(venues.provider.requests) == calls


def test_a_fresh_bar_belongs_to_the_best_source_for_a_while(
    bitcoin: Instrument, venues: Venues, history_start: datetime, settings: Any
) -> None:
    just_closed = END + HOUR + timedelta(seconds=4)
    clock.configure(clock.MarketClock(start=just_closed, anchor=clock.wall_now(), speed=1.0))
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    venues.add("bybit", "BTCUSDT", history_start, END + HOUR, 101.0)
    result = cover(bitcoin)
    assert result.awaited == 1
    assert stored(bitcoin, "bybit") == 0
    assert missing_at(instruments=[bitcoin], timeframe="1h", open_time=END) == ["bitcoin"]
    later = just_closed + timedelta(seconds=30)
    clock.configure(clock.MarketClock(start=later, anchor=clock.wall_now(), speed=1.0))
    assert cover(bitcoin).stored == 1
    assert stored(bitcoin, "bybit") == 1


def test_the_settings_narrow_the_sources(
    bitcoin: Instrument, venues: Venues, history_start: datetime, settings: Any
) -> None:
    settings.CANDLE_SOURCES = ("bybit",)
    venues.add("bybit", "BTCUSDT", history_start, END, 101.0)
    assert cover(bitcoin).is_complete
    assert venues.calls("binance") == 0


def test_what_was_given_up_is_asked_for_at_a_source_that_is_new(
    bitcoin: Instrument, venues: Venues, history_start: datetime, settings: Any
) -> None:
    venues.provider.routes["/coingecko/coins/bitcoin/market_chart/range"] = venues.coingecko
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    everybody = settings.CANDLE_SOURCES
    cover(bitcoin)
    whole = Ohlcv.objects.count()
    gap = END - 30 * HOUR
    Ohlcv.objects.filter(open_time__gte=gap).delete()
    settings.CANDLE_SOURCES = ("coingecko",)
    assert cover(bitcoin).unrepairable == 30
    assert cover(bitcoin).requests == 0
    settings.CANDLE_SOURCES = everybody
    venues.failing.add("binance")
    cover(bitcoin)
    assert {hole.label for hole in CandleHole.objects.all()} == {"pending"}
    venues.failing.clear()
    assert cover(bitcoin).stored == 30
    assert not CandleHole.objects.exists()
    assert Ohlcv.objects.count() == whole
    assert cover(bitcoin).requests == 0


def test_a_source_that_is_new_may_have_an_older_history(
    bitcoin: Instrument, venues: Venues, history_start: datetime, settings: Any
) -> None:
    venues.add("bybit", "BTCUSDT", END - 20 * HOUR, END, 101.0)
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    settings.CANDLE_SOURCES = ("bybit",)
    assert cover(bitcoin).stored == 20
    settings.CANDLE_SOURCES = ("binance", "bybit")
    assert cover(bitcoin, start=END - 25 * HOUR).stored == 5  # a backfill may come first
    assert cover(bitcoin).stored == (END - history_start) // HOUR - 25
    assert cover(bitcoin).requests == 0


def test_what_was_deleted_for_its_age_is_not_asked_for_at_a_new_source(
    bitcoin: Instrument, venues: Venues, history_start: datetime, settings: Any
) -> None:
    settings.CANDLE_SOURCES = ("bybit",)
    kept_from = END - 48 * HOUR
    RetentionPolicy.objects.update_or_create(
        kind="candles", defaults={"keep_days": 2, "pruned_before": kept_from}
    )
    for venue in ("binance", "bybit"):
        venues.add(venue, "BTCUSDT", history_start, END, 100.0)
    assert cover(bitcoin).stored == 48
    settings.CANDLE_SOURCES = ("binance", "bybit")
    assert cover(bitcoin).requests == 0
    assert not Ohlcv.objects.filter(open_time__lt=kept_from).exists()


def test_a_stablecoin_is_sampled_from_coingecko_alone(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    tether = Instrument.objects.get(coin_id="tether")
    venues.add("coingecko", "tether", history_start, END, 1.0)
    assert cover(tether).is_complete
    assert Ohlcv.objects.filter(instrument=tether, is_sampled=True, volume=None).count() > 1000
    assert venues.calls("binance") + venues.calls("bybit") == 0


def test_impossible_candles_are_not_stored(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    venues.bars["binance", "BTCUSDT"][LAST - HOUR] = -1.0
    result = cover(bitcoin)
    assert result.rejected == 1
    assert not Ohlcv.objects.filter(open_time=LAST - HOUR).exists()
    assert CandleHole.objects.get().start == LAST - HOUR


def test_a_bar_of_an_impossible_time_is_reported(
    bitcoin: Instrument, venues: Venues, provider: Provider, settings: Any
) -> None:
    settings.CANDLE_SOURCES = ("binance", "bybit")
    row = [10**18, "1", "1", "1", "1", "1"]
    provider.routes["/binance/fapi/v1/klines"] = lambda _: json_answer([row])
    rows = {"retCode": 0, "result": {"list": [row]}}
    provider.routes["/bybit/v5/market/kline"] = lambda _: json_answer(rows)
    problems = cover(bitcoin).errors
    assert [problem.split()[0] for problem in problems] == ["binance", "bybit"]


def test_two_at_once_make_one_request(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    CollectionState.objects.create(
        instrument=bitcoin, timeframe="1h", leased_until=clock.wall_now() + HOUR
    )
    assert cover(bitcoin).is_busy
    CollectionState.objects.update(leased_until=clock.wall_now() - HOUR)
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    assert cover(bitcoin).is_complete


def test_what_another_has_just_asked_for_is_not_asked_again(
    bitcoin: Instrument,
    venues: Venues,
    history_start: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    look = selectors.lacking_bars
    others: list[services.Coverage] = []

    def look_while_another_works(**options: Any) -> Any:
        seen = look(**options)
        if not others:
            others.append(services.Coverage("bitcoin", "1h"))  # the other's own look is a plain one
            others[0] = cover(bitcoin)
        return seen

    monkeypatch.setattr(selectors, "lacking_bars", look_while_another_works)
    assert cover(bitcoin).is_busy
    assert others[0].is_complete
    assert venues.calls("binance") == 2


def test_a_failure_of_our_own_is_no_success(
    bitcoin: Instrument,
    venues: Venues,
    history_start: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("the disk is full")

    venues.add("binance", "BTCUSDT", history_start, END, 100.0)
    monkeypatch.setattr("collectors.services.coverage.store_candles", fail)
    with pytest.raises(RuntimeError):
        cover(bitcoin)
    state = CollectionState.objects.get()
    assert (state.attempts, state.successes, state.consecutive_failures) == (1, 0, 1)
    assert (state.last_success_at, state.leased_until) == (None, None)
    assert state.last_error == "RuntimeError: the disk is full"


@pytest.mark.django_db(transaction=True)
def test_the_lease_is_renewed_while_a_source_is_slow_and_fences_who_lost_it(
    bitcoin: Instrument,
    venues: Venues,
    provider: Provider,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert leases.LEASE <= timedelta(seconds=10)  # what a killed worker blocks, in wall time
    settings.CANDLE_SOURCES = ("binance",)
    monkeypatch.setattr(leases, "LEASE", timedelta(seconds=0.2))
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.05)
    seen: list[bool] = []

    def slow(_: dict[str, str]) -> Answer:
        time.sleep(0.4)
        seen.append(cover(bitcoin).is_busy)
        CollectionState.objects.update(attempts=F("attempts") + 1)  # another has taken it
        connection.close()
        return json_answer([])

    provider.routes["/binance/fapi/v1/klines"] = slow
    cover(bitcoin, start=END - 2 * HOUR)
    assert seen == [True]
    state = CollectionState.objects.get()
    assert (state.successes, state.leased_until is None) == (0, False)
    assert not CandleHole.objects.exists()


def test_a_candle_that_came_while_sources_were_asked_is_in_no_hole(
    bitcoin: Instrument, venues: Venues, history_start: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    venues.add("binance", "BTCUSDT", history_start, LAST, 100.0)
    ask = coverage.ask_sources

    def ask_while_the_stream_stores(*arguments: Any) -> Any:
        search = ask(*arguments)
        candle = Candle(
            open_time=LAST, open=9.0, high=9.0, low=9.0, close=9.0, volume=1.0, source="bybit"
        )
        services.store_candles(instrument=bitcoin, timeframe="1h", candles=[candle])
        return search

    monkeypatch.setattr(coverage, "ask_sources", ask_while_the_stream_stores)
    assert cover(bitcoin).is_complete
    assert not CandleHole.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_storing_is_announced_after_commit_with_a_raised_revision(
    bitcoin: Instrument, venues: Venues, history_start: datetime
) -> None:
    heard: list[tuple[list[str], str]] = []

    def listen(coin_ids: list[str], timeframe: str, **_: Any) -> None:
        heard.append((coin_ids, timeframe))

    events.candles_stored.connect(listen)
    try:
        venues.add("binance", "BTCUSDT", history_start, END, 100.0)
        cover(bitcoin)
        cover(bitcoin)
    finally:
        events.candles_stored.disconnect(listen)
    assert heard == [(["bitcoin"], "1h")]
    key = candle_key("bitcoin", "1h")
    assert revisions(keys=[key, "candles:none:1h"]) == {key: 1, "candles:none:1h": 0}
