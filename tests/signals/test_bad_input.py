"""Bad input through bar runs: nothing raises, no invalid bar speaks, and the reason is stored."""

import json
import math
import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings

from collectors.marketdata import Candle, macro_key
from collectors.models import (
    Instrument,
    Listing,
    MacroObservation,
    MacroSeries,
    Ohlcv,
    Series,
)
from collectors.services.candles import store_market
from signals import services
from signals.certificate import code_hash
from signals.models import BarRun, InitialState, Signal, StrategyConfig
from signals.registry import STRATEGIES, build_strategy
from signals.services import passes

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FIRST = datetime(2021, 3, 1, tzinfo=UTC)
END = datetime(2021, 5, 9, tzinfo=UTC)
BARS = (END - FIRST) // HOUR
RUNS = 12
WAITED = timedelta(minutes=3)  # the patience of a first run is over


def walk(seed: int, price: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return price * np.exp(np.cumsum(rng.normal(size=BARS) * 0.01))


def jumped(close: np.ndarray) -> np.ndarray:
    """A tenth of its price, thirty hours before the end: a split, or another token."""
    return np.where(np.arange(BARS) < BARS - 30, close, close / 10.0)


# Closes by coin, and which of the bars are given (all by default).
MARKET = {
    "bitcoin": walk(1, 100.0),
    "ethereum": walk(2, 10.0),
    "ripple": walk(3, 1.0),
    "constant": np.full(BARS, 1.0),
    "tiny": walk(4, 1e-8),
    "huge": walk(5, 1e7),
    "split": jumped(walk(6, 100.0)),
    "nan": np.where(np.arange(BARS) % 7 == 3, np.nan, walk(7, 100.0)),
    "holes": walk(8, 100.0),
    "yesterday": walk(9, 100.0),
    "single": walk(10, 100.0),
    "never": walk(11, 100.0),
}
GIVEN = {
    "holes": np.random.default_rng(8).random(BARS) > 0.1,
    "yesterday": np.arange(BARS) >= BARS - 24,
    "single": np.arange(BARS) == BARS - 1,
    "never": np.zeros(BARS, dtype=np.bool_),
}


def candles_of(coin_id: str) -> list[Candle]:
    close = MARKET[coin_id]
    given = GIVEN.get(coin_id, np.ones(BARS, dtype=np.bool_))
    return [
        Candle(
            open_time=FIRST + int(bar) * HOUR,
            open=float(close[bar]),
            high=float(close[bar] * 1.001),
            low=float(close[bar] * 0.999),
            close=float(close[bar]),
            volume=1.0,
            source="binance",
        )
        for bar in np.flatnonzero(given)
    ]


@pytest.fixture
def make_world(db: None, clock_at) -> Callable[..., None]:
    """Puts coins of MARKET through the door that judges candles, with a daily VIX and every
    strategy enabled for every instrument. The clock stands at END, when RUNS bars are due."""

    def make(*coin_ids: str) -> None:
        clock_at(END + WAITED, start=END - (RUNS - 1) * HOUR)
        build(coin_ids)

    return make


def build(coin_ids: Iterable[str]) -> None:
    stored = {}
    for coin_id in coin_ids:
        instrument = Instrument.objects.create(
            coin_id=coin_id, symbol=coin_id[:8].upper(), name=coin_id, sector="test"
        )
        Listing.objects.create(
            instrument=instrument,
            exchange="binance",
            symbol=f"{instrument.symbol}USDT",
            tick_size="0.1",
            quantity_step="0.001",
        )
        stored[instrument] = candles_of(coin_id)
    store_market(timeframe="1h", candles=stored, expect_new=True)
    release_vix(until=END)
    StrategyConfig.objects.bulk_create(
        StrategyConfig(
            name=name,
            is_enabled=True,
            certificate_hash=code_hash(build_strategy(name)),
            certified_at=END,
        )
        for name in STRATEGIES
    )


def release_vix(*, until: datetime) -> None:
    """A value a day, looked for ever since."""
    MacroObservation.objects.all().delete()
    series, _ = MacroSeries.objects.update_or_create(
        series_id="VIXCLS", defaults={"frequency": "daily", "last_success_at": END}
    )
    Series.objects.get_or_create(key=macro_key("VIXCLS"))
    rng = np.random.default_rng(12)
    MacroObservation.objects.bulk_create(
        MacroObservation(
            series=series,
            date=(released_at - DAY).date(),
            value=float(rng.uniform(15.0, 45.0)),
            realtime_start=(released_at - DAY).date(),
            released_at=released_at,
            received_at=released_at,
        )
        for released_at in (FIRST + day * DAY for day in range((until - FIRST) // DAY))
    )


def run_all() -> list[BarRun]:
    """Run what is due, from no run at all."""
    Signal.objects.all().delete()
    BarRun.objects.all().delete()
    InitialState.objects.all().delete()
    runs = services.run_due_bars(timeframe="1h")
    assert len(runs) == RUNS
    assert [run.failures for run in runs] == [{}] * RUNS
    return runs


def spoken() -> set[tuple[str, str, datetime]]:
    """Who wanted which instrument at which bar."""
    said = Signal.objects.exclude(direction=0)
    return set(said.values_list("strategy", "instrument__coin_id", "bar_open_time"))


def test_no_invalid_bar_speaks_and_each_silence_has_its_reason(make_world) -> None:
    make_world(*MARKET)
    runs = run_all()
    assert not runs[-1].is_complete
    assert set(runs[-1].durations) == set(STRATEGIES)
    assert all(0 < seconds < passes.LIMIT_S for seconds in runs[-1].durations.values())
    real = set(Ohlcv.objects.values_list("instrument__coin_id", "open_time"))
    assert spoken()
    assert all((coin_id, bar) in real for _, coin_id, bar in spoken())
    by_bar = {run.bar_open_time: run.withheld for run in runs}
    for strategy, coin_id, bar in spoken():
        assert coin_id not in by_bar[bar].get(strategy, {})
    for name in STRATEGIES:
        withheld = runs[-1].withheld[name]
        total = build_strategy(name).lookback + 1
        assert withheld["never"] == "the bar itself is missing"
        assert withheld["single"] == f"{total - 1} of {total} bars are missing"
        assert withheld["yesterday"] == f"{total - 24} of {total} bars are missing"
        for coin_id in ("nan", "holes"):
            assert "missing" in withheld[coin_id]
        for coin_id in ("bitcoin", "constant", "tiny", "huge", "split"):
            assert coin_id not in withheld
    assert not {coin_id for _, coin_id, _ in spoken()} & set(GIVEN)
    for signal in Signal.objects.all():
        numbers = (signal.confidence, signal.price, signal.stop_loss, signal.take_profit)
        assert all(number is None or math.isfinite(number) for number in numbers)
        json.dumps(signal.reasons, allow_nan=False)


def contexts(files: set[Path]) -> list[dict]:
    return [json.loads(path.read_text())["market_context"] for path in files]


def test_a_month_without_a_vix_silences_those_who_read_it_alone(
    make_world, django_capture_on_commit_callbacks
) -> None:
    make_world("bitcoin", "ethereum", "ripple", "tiny", "huge", "split")
    folder = settings.DATA_DIR / "signals"
    found = set(folder.glob("*.json"))
    with django_capture_on_commit_callbacks(execute=True):
        run_all()
    fresh = set(folder.glob("*.json")) - found
    assert fresh
    assert all(15.0 <= each["vix_level"] <= 45.0 for each in contexts(fresh))

    release_vix(until=END - 34 * DAY)
    with django_capture_on_commit_callbacks(execute=True):
        runs = run_all()
    stale = set(folder.glob("*.json")) - found - fresh
    assert stale
    nothing = {"vix_level": None, "correlation_btc_vix": None}
    assert contexts(stale) == [nothing] * len(stale)
    for name in STRATEGIES:
        if build_strategy(name).macro_series:
            assert runs[-1].withheld[name] == {"*": "VIXCLS is 35 days old"}
            assert not Signal.objects.filter(strategy=name).exclude(direction=0).exists()
        else:
            assert name not in runs[-1].withheld
    assert Signal.objects.exists()

    MacroObservation.objects.all().delete()
    assert run_all()[-1].withheld["vix_correlation"] == {"*": "VIXCLS is not known"}


def test_a_strategy_that_takes_too_long_is_a_failure_and_is_not_heard(
    make_world, monkeypatch
) -> None:
    slow = STRATEGIES["momentum"]
    analyze = slow.analyze

    def dawdle(self, market):
        time.sleep(0.5)
        return analyze(self, market)

    make_world("bitcoin", "ethereum")
    monkeypatch.setattr(slow, "analyze", dawdle)
    monkeypatch.setattr(passes, "LIMIT_S", 0.5)
    last = services.run_due_bars(timeframe="1h")[-1]
    assert re.fullmatch(r"took \d+\.\d s, limit 0\.5 s", last.failures["momentum"])
    assert last.durations["momentum"] > 0.5
    assert not Signal.objects.filter(strategy="momentum").exists()
    assert set(last.failures) == {"momentum"}
