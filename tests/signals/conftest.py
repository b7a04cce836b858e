"""Markets that tests of signals are made of."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.db import connection

from collectors import clock
from collectors.marketdata import candle_key, macro_key, to_ms
from collectors.models import (
    Instrument,
    Listing,
    MacroObservation,
    MacroSeries,
    Ohlcv,
    Series,
)
from signals.codehash import code_hash
from signals.models import StrategyConfig
from signals.registry import build_strategy
from signals.services import certification, strategies
from signals.strategy import Market

HOUR_MS = 3_600_000
HOUR = timedelta(hours=1)
FIRST = datetime(2021, 3, 1, tzinfo=UTC)
HISTORY = datetime(2021, 3, 18, tzinfo=UTC)
START = datetime(2021, 5, 3, tzinfo=UTC)
END = START + 24 * HOUR
COINS = ("bitcoin", "ethereum", "ripple", "solana")
ENABLED = ("mean_reversion", "vix_correlation")

MakeMarket = Callable[..., Market]


@pytest.fixture
def make_market() -> MakeMarket:
    """Builds hourly markets from closes (B, K); every bar valid and the VIX known by default, as
    that of the day before."""

    def make(
        close: np.ndarray, *, start: datetime = FIRST, vix: np.ndarray | None = None
    ) -> Market:
        close = np.ascontiguousarray(close, dtype=np.float64)
        bars, columns = close.shape
        opened = np.vstack([close[:1], close[:-1]])
        return Market(
            timeframe="1h",
            instruments=tuple([*COINS, *(f"coin-{more}" for more in range(columns))][:columns]),
            open_time=to_ms(start) + HOUR_MS * np.arange(bars, dtype=np.int64),
            open=opened,
            high=np.maximum(opened, close),
            low=np.minimum(opened, close),
            close=close,
            volume=np.ones_like(close),
            volume_source=np.ones(close.shape, dtype=np.int8),
            valid=np.ones(close.shape, dtype=np.bool_),
            macro={"VIXCLS": np.full(bars, 20.0) if vix is None else vix},
            macro_known={"VIXCLS": np.ones(bars, dtype=np.bool_)},
            macro_day={"VIXCLS": to_ms(start) // (24 * HOUR_MS) - 1 + np.arange(bars) // 24},
        )

    return make


@pytest.fixture
def random_market(make_market: MakeMarket) -> MakeMarket:
    """Builds seeded hourly markets of falling and rising months with a stepping VIX, which the
    prices answer on its day, one day before it is released; a hole carries the last close."""

    def make(*, seed: int, bars: int, columns: int = 2, start: datetime = FIRST) -> Market:
        rng = np.random.default_rng(seed)
        days = np.arange(bars) // 24
        shock = rng.normal(size=days[-1] + 1)[days]
        vix = 24.0 + 4.0 * shock
        move = np.diff(np.log(np.maximum(vix, 5.0)), prepend=np.log(max(vix[0], 5.0)))
        returns = rng.normal(size=(bars, columns)) * 0.006 - 0.3 * move[:, np.newaxis]
        close = 100.0 * np.exp(np.cumsum(returns, axis=0))
        valid = rng.random((bars, columns)) > 0.003
        last = np.maximum.accumulate(np.where(valid, np.arange(bars)[:, np.newaxis], 0), axis=0)
        market = make_market(
            np.take_along_axis(close, last, axis=0),
            start=start,
            vix=np.maximum(vix, 5.0)[np.maximum(np.arange(bars) - 24, 0)],
        )
        return dataclasses.replace(market, valid=valid)

    return make


@pytest.fixture
def clock_at() -> Iterator[Callable[[datetime], None]]:
    """Sets market time: the clock starts at the given moment, in steps of the test's own."""

    def set_clock(moment: datetime, *, start: datetime = START) -> None:
        # A speed of 1 from an anchor in the past puts market time at `moment` now.
        anchor = clock.wall_now() - (moment - start)
        clock.configure(clock.MarketClock(start=start, anchor=anchor))

    before = clock.current()
    yield set_clock
    clock.configure(before)


@pytest.fixture
def stored_crash(db: None) -> list[Instrument]:
    """Two instruments with candles until END; bitcoin crashes in the first hours after START.

    The VIX is 18, and 30 since ten days before START, released every other day.
    """
    instruments = []
    for coin_id, symbol in (("bitcoin", "BTC"), ("ethereum", "ETH")):
        instrument = Instrument.objects.create(
            coin_id=coin_id, symbol=symbol, name=symbol, sector="test"
        )
        Listing.objects.create(
            instrument=instrument,
            exchange="binance",
            symbol=f"{symbol}USDT",
            tick_size="0.1",
            quantity_step="0.001",
        )
        Series.objects.create(key=candle_key(coin_id, "1h"), revision=7)
        _store_candles(instrument, crashes=coin_id == "bitcoin")
        instruments.append(instrument)
    series = MacroSeries.objects.create(
        series_id="VIXCLS", name="VIX", units="index", frequency="daily", last_success_at=END
    )
    Series.objects.create(key=macro_key("VIXCLS"), revision=2)
    for days in range(0, (END - HISTORY).days, 2):
        released_at = HISTORY + timedelta(days=days)
        MacroObservation.objects.create(
            series=series,
            date=released_at.date() - timedelta(days=1),
            value=18.0 if released_at < START - 240 * HOUR else 30.0,
            realtime_start=released_at.date(),
            released_at=released_at,
            received_at=released_at,
        )
    return instruments


def _store_candles(instrument: Instrument, *, crashes: bool) -> None:
    bars = (END - HISTORY) // HOUR
    quiet = (START - HISTORY) // HOUR
    steps = 0.0005 * np.random.default_rng(5 if crashes else 6).normal(size=bars)
    if crashes:
        steps[quiet : quiet + 7] -= 0.02
        steps[quiet + 12 :] += 0.02
    close = 100.0 * np.exp(np.cumsum(steps))
    opened = np.concatenate([close[:1], close[:-1]])
    with connection.cursor() as cursor:
        # A thousand model instances would take longer than most tests that read them.
        cursor.execute(
            f"INSERT INTO {Ohlcv._meta.db_table} (instrument_id, timeframe, open_time, open, high,"
            " low, close, volume, source, is_sampled, received_at)"
            " SELECT %s, '1h', %s + bar * interval '1 hour', open, greatest(open, close),"
            " least(open, close), close, 1.0, 'binance', false, %s"
            " FROM unnest(%s::float8[], %s::float8[]) WITH ORDINALITY AS bars (open, close, number)"
            " CROSS JOIN LATERAL (SELECT number - 1 AS bar) AS position",
            [instrument.pk, HISTORY, END, opened.tolist(), close.tolist()],
        )


@pytest.fixture
def seeded(stored_crash: list[Instrument]) -> list[Instrument]:
    """The stored crash, and the strategies ENABLED enabled as the seed leaves them."""
    StrategyConfig.objects.bulk_create(
        StrategyConfig(
            name=name,
            is_enabled=True,
            certificate_hash=code_hash(build_strategy(name)),
            certified_at=START,
        )
        for name in ENABLED
    )
    return stored_crash


@pytest.fixture
def all_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a certificate had come with our code, for whatever code and parameters."""

    def shipped(name: str, code_hash: str) -> dict[str, object]:
        return {"strategy": name, "code_hash": code_hash, "is_passed": True}

    for module in (certification, strategies):
        monkeypatch.setattr(module, "shipped_certificate", shipped)
