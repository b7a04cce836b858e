"""Coins that CoinGecko serves: one poll for all, candles from stored samples, made again alike."""

import itertools
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from collectors import clock, services
from collectors.coingecko import Sample
from collectors.marketdata import to_ms
from collectors.models import (
    CandleReplacement,
    Instrument,
    Ohlcv,
    PriceSample,
    QualityFinding,
)
from collectors.services import coverage
from collectors.services.samples import store_samples
from tests.collectors.providers import NOW, Answer, Provider, Venues, json_answer

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
TEN = datetime(2025, 3, 3, 10, tzinfo=UTC)
MARKETS = "/coingecko/coins/markets"


def turn_clock(moment: datetime, speed: float = 1.0) -> None:
    clock.configure(clock.MarketClock(start=moment, anchor=clock.wall_now(), speed=speed))


class Gecko:
    """coins/markets and market_chart of a few coins, whose prices rise by one a minute,
    with a spike in every hour."""

    def __init__(self, provider: Provider, coins: Iterable[str]) -> None:
        self.provider = provider
        self.coins = list(coins)
        provider.routes[MARKETS] = self.markets
        for coin in self.coins:
            provider.routes[f"/coingecko/coins/{coin}/market_chart"] = self.chart
            provider.routes[f"/coingecko/coins/{coin}/market_chart/range"] = self.chart_range

    def price(self, at: datetime) -> float:
        spike = 500.0 if 30 <= at.minute < 35 else 0.0
        return 10_000.0 + (at - TEN) / MINUTE + spike

    def markets(self, params: dict[str, str]) -> Answer:
        now = clock.now()
        return json_answer(
            [
                {
                    "id": coin,
                    "symbol": coin[:3],
                    "name": coin,
                    "current_price": self.price(now),
                    "market_cap": 1,
                    "market_cap_rank": None,
                    "total_volume": 9.0,
                    "last_updated": now.isoformat().replace("+00:00", "Z"),
                }
                for coin in params["ids"].split(",")
                if coin in self.coins
            ]
        )

    def chart(self, params: dict[str, str]) -> Answer:
        return self._points(clock.now() - timedelta(days=float(params["days"])), clock.now())

    def chart_range(self, params: dict[str, str]) -> Answer:
        start, end = (datetime.fromtimestamp(int(params[key]), UTC) for key in ("from", "to"))
        return self._points(start, min(end, clock.now()))

    def _points(self, start: datetime, end: datetime) -> Answer:
        step = 5 * MINUTE if start >= clock.now() - timedelta(days=1, seconds=5) else HOUR
        first = start.replace(minute=0, second=0, microsecond=0)
        times = [first + number * step for number in range(int((end - first) / step) + 1)]
        points = [[to_ms(at), self.price(at)] for at in times if start <= at <= end]
        return json_answer({"prices": points, "market_caps": [], "total_volumes": points})

    def calls(self, name: str) -> int:
        return sum(path.endswith(name) for path in self.provider.paths())


@pytest.fixture
def gecko(bitcoin: Instrument, venues: Venues, provider: Provider) -> Gecko:
    """Two days of history are kept; tether and solana are collected, solana at exchanges."""
    Instrument.objects.exclude(coin_id__in=("tether", "solana", "bittensor")).update(
        is_enabled=False
    )
    return Gecko(provider, ("tether", "solana", "bittensor", "bitcoin"))


@pytest.fixture(autouse=True)
def short_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "HISTORY_DEPTH", timedelta(days=2))


@pytest.fixture
def coingecko_alone(settings: Any) -> None:
    settings.CANDLE_SOURCES = ("coingecko",)


def rows(coin_id: str, timeframe: str = "1h") -> list[tuple[Any, ...]]:
    candles = Ohlcv.objects.filter(instrument__coin_id=coin_id, timeframe=timeframe)
    fields = ("open_time", "open", "high", "low", "close", "volume", "source", "is_sampled")
    return list(candles.order_by("open_time").values_list(*fields))


def cover(coin_id: str, timeframe: str = "1h") -> services.Coverage:
    instrument = Instrument.objects.get(coin_id=coin_id)
    return services.ensure_coverage(instrument=instrument, timeframe=timeframe, until=clock.now())


def test_a_coin_without_exchange_is_polled_once_at_the_end_of_its_hour(gecko: Gecko) -> None:
    turn_clock(TEN + 30 * MINUTE)
    assert services.poll_samples() == 0
    assert gecko.calls("markets") == 0
    turn_clock(TEN + 59 * MINUTE)
    assert services.poll_samples() == 1
    assert services.poll_samples() == 0
    assert gecko.calls("markets") == 1
    assert gecko.provider.requests[-1][1]["ids"] == "tether"
    assert PriceSample.objects.get().instrument.coin_id == "tether"


@pytest.mark.parametrize(("speed", "minute"), [(1.0, 59), (20.0, 59), (200.0, 44)])
def test_on_a_fast_clock_the_poll_before_the_last_minute_takes_the_sample(
    gecko: Gecko, speed: float, minute: int
) -> None:
    turn_clock(TEN + MINUTE)
    cover("tether")
    before = gecko.calls("range")
    polled = []
    for poll in (14, 29, 44, 59):
        turn_clock(TEN + poll * MINUTE, speed)
        polled += [poll] * services.poll_samples()
    assert polled == [minute]
    assert gecko.calls("markets") == 1
    turn_clock(TEN + HOUR + MINUTE)
    assert cover("tether").is_complete
    assert gecko.calls("range") == before
    newest = rows("tether")[-1]
    assert newest[0] == TEN
    # What passes between reading the clock and the answer is wall time.
    assert newest[4] == pytest.approx(gecko.price(TEN + minute * MINUTE), abs=speed / 60 + 0.1)


@pytest.mark.usefixtures("coingecko_alone")
def test_one_call_samples_all_coins_at_every_quarter_while_one_is_collected_in_quarters(
    gecko: Gecko,
) -> None:
    Instrument.objects.filter(coin_id="bitcoin").update(is_enabled=True)
    for minute in (14, 29, 44, 59):
        turn_clock(TEN + minute * MINUTE)
        assert services.poll_samples() == 4
    assert gecko.calls("markets") == 4
    assert PriceSample.objects.count() == 16


def test_a_polled_bar_costs_no_call_and_a_missed_poll_one(gecko: Gecko) -> None:
    turn_clock(TEN + MINUTE)
    assert cover("tether").is_complete
    before = gecko.calls("range")
    turn_clock(TEN + 59 * MINUTE)
    services.poll_samples()
    turn_clock(TEN + HOUR + MINUTE)
    assert cover("tether").is_complete
    assert gecko.calls("range") == before
    (ten_oclock,) = [row for row in rows("tether") if row[0] == TEN]
    assert ten_oclock[4] == pytest.approx(gecko.price(TEN + 59 * MINUTE), abs=0.1)
    turn_clock(TEN + 2 * HOUR + MINUTE)  # no poll at 11:59
    assert cover("tether").is_complete
    assert gecko.calls("range") == before + 1
    assert rows("tether")[-1][0] == TEN + HOUR


def test_lost_candles_are_made_again_alike_without_a_call(gecko: Gecko) -> None:
    turn_clock(TEN + MINUTE)
    cover("tether")
    turn_clock(TEN + 59 * MINUTE)
    services.poll_samples()
    turn_clock(TEN + HOUR + MINUTE)
    cover("tether")
    services.refine_samples()
    before, calls = rows("tether"), len(gecko.provider.requests)
    assert len(before) > 40
    doomed = Ohlcv.objects.filter(instrument__coin_id="tether").order_by("?")[:20]
    Ohlcv.objects.filter(pk__in=list(doomed.values_list("pk", flat=True))).delete()
    assert len(rows("tether")) == len(before) - 20
    assert cover("tether").stored == 20
    assert rows("tether") == before
    assert len(gecko.provider.requests) == calls


def test_more_samples_make_a_better_candle_and_the_replacement_is_recorded(gecko: Gecko) -> None:
    turn_clock(TEN + MINUTE)
    cover("tether")
    turn_clock(TEN + 59 * MINUTE)
    services.poll_samples()
    turn_clock(TEN + HOUR + MINUTE)
    cover("tether")
    poor = rows("tether")[-1]
    assert services.refine_samples() > 0
    rich = rows("tether")[-1]
    assert (poor[0], rich[0]) == (TEN, TEN)
    assert poor[2] < rich[2] == gecko.price(TEN + 30 * MINUTE)
    assert gecko.calls("market_chart") == 1
    replaced = CandleReplacement.objects.get(candle__open_time=TEN)
    assert replaced.reason == "correction"
    assert replaced.old_values["high"] == poor[2]
    assert services.refine_samples() <= 1  # the moment of asking itself


@pytest.mark.usefixtures("coingecko_alone")
def test_one_odd_coin_does_not_hide_the_others(gecko: Gecko) -> None:
    def answer(params: dict[str, str]) -> Answer:
        priced = json.loads(gecko.markets(params)[2])
        for row in priced:
            row["current_price"] = 0 if row["id"] == "bittensor" else row["current_price"]
        return json_answer(priced)

    gecko.provider.routes[MARKETS] = answer
    turn_clock(TEN + 59 * MINUTE)
    assert services.poll_samples() == 2
    sampled = PriceSample.objects.order_by("instrument__coin_id")
    assert list(sampled.values_list("instrument__coin_id", flat=True)) == ["solana", "tether"]
    finding = QualityFinding.objects.get()
    assert (finding.subject, finding.reason) == ("samples:bittensor", "price is not positive")
    unknown = json_answer({"error": "coin not found"}, 404)
    gecko.provider.routes["/coingecko/coins/bittensor/market_chart"] = lambda _: unknown
    services.refine_samples()
    assert sampled.filter(at__lt=TEN).values("instrument").distinct().count() == 2


def test_a_rolling_volume_never_becomes_a_candles_volume(gecko: Gecko) -> None:
    turn_clock(TEN + 59 * MINUTE)
    services.poll_samples()
    turn_clock(TEN + HOUR + MINUTE)
    cover("tether")
    assert len(rows("tether")) > 40
    assert {(row[5], row[6], row[7]) for row in rows("tether")} == {(None, "coingecko", True)}


@pytest.mark.usefixtures("coingecko_alone")
def test_quarters_are_made_of_near_samples_only(gecko: Gecko) -> None:
    Instrument.objects.filter(coin_id="bitcoin").update(is_enabled=True)
    turn_clock(TEN + MINUTE)
    cover("bitcoin", "1h")
    assert len(rows("bitcoin", "1h")) > 40
    cover("bitcoin", "15m")
    quarters = rows("bitcoin", "15m")
    assert quarters[-1][0] == TEN - 15 * MINUTE
    assert len(quarters) < 100  # of the last day, not one in four of the days before
    assert all(later[0] - row[0] == 15 * MINUTE for row, later in itertools.pairwise(quarters))


def test_a_vanished_coin_and_a_null_price_are_no_sample(gecko: Gecko, provider: Provider) -> None:
    Instrument.objects.filter(coin_id="bittensor").update(source_chain=["coingecko"])
    turn_clock(TEN + 59 * MINUTE)
    row = {"id": "tether", "symbol": "usdt", "name": "Tether", "current_price": None}
    row |= {"market_cap": 1, "market_cap_rank": 3, "last_updated": "2025-03-03T10:58:30.000Z"}
    provider.routes[MARKETS] = lambda _: json_answer([row])
    with structlog.testing.capture_logs() as logged:
        assert services.poll_samples() == 0
    assert PriceSample.objects.count() == 0
    assert ["bittensor"] in [line.get("coins") for line in logged]


def test_nothing_is_polled_while_exchanges_serve_all(gecko: Gecko) -> None:
    Instrument.objects.filter(coin_id="tether").update(is_enabled=False)
    turn_clock(TEN + 59 * MINUTE)
    assert services.poll_samples() == 0
    assert gecko.provider.requests == []
    assert NOW < clock.now()


def test_an_impossible_sample_is_rejected_with_a_finding(gecko: Gecko) -> None:
    tether = Instrument.objects.get(coin_id="tether")
    turn_clock(TEN + 59 * MINUTE)
    now = to_ms(clock.now())
    samples = [
        Sample(now - 1000, 1.0),
        Sample(now - 2000, None),
        Sample(now - 3000, 0.0),
        Sample(now - 4000, -1.0),
        Sample(now - 5000, float("inf")),
        Sample(now + 3_600_000, 1.0),
        Sample(-5, 1.0),
        Sample(10**18, 1.0),
    ]
    assert store_samples(instrument=tether, samples=samples) == 1
    assert PriceSample.objects.get().price == 1.0
    found = QualityFinding.objects.filter(subject="samples:tether", verdict="rejected")
    reasons = sorted(found.values_list("reason", flat=True))
    assert reasons == sorted(
        [
            "no time",
            "of a time to come",
            "price is not finite",
            "price is not positive",
            "price is not positive",
        ]
    )
    assert sum(found.values_list("times", flat=True)) == 6
