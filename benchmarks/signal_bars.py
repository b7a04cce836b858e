"""One live bar run in the database: how long it takes, and what of it is reading, computing and
writing."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import numpy as np
from django.db import connection

from benchmarks.measures import Measure
from benchmarks.signal_pass import HOUR, coin_ids, hourly_strategies
from collectors import clock
from collectors.marketdata import Candle
from collectors.models import Instrument, Listing, MacroObservation, MacroSeries, Series
from collectors.services import store_market
from signals import selectors
from signals.codehash import code_hash
from signals.models import BarRun, StrategyConfig
from signals.services import bar_runs, run_due_bars

SIZES, BARS, WARMUP = (10, 100), 20, 2
NOW = datetime.fromisoformat("2024-05-20T12:00:00+00:00")
HISTORY_BARS = 150 * 24
# Claimed of a bar run over 100 instruments, the strategies' share included.
MOST_S = {10: 1.0, 100: 5.0}


def measure_bars() -> list[Measure]:
    """The median bar, beside what is claimed, over each number of instruments."""
    store_macro()
    # As the seed leaves them, without trying each at every bar of a world first.
    StrategyConfig.objects.bulk_create(
        StrategyConfig(
            name=name, is_enabled=True, certificate_hash=code_hash(strategy), certified_at=NOW
        )
        for name, strategy in hourly_strategies().items()
    )
    return [each for count in SIZES for each in measure_size(count)]


def measure_size(count: int) -> list[Measure]:
    """BARS bar runs one after the other, each after its candles were stored."""
    instruments = fill(count)
    spent: dict[str, list[float]] = {name: [] for name in ("read", "compute", "write", "whole")}
    for number in range(BARS + WARMUP):
        closed = NOW + number * HOUR
        clock.configure(clock.MarketClock(start=closed, anchor=clock.wall_now()))
        store(instruments, first=HISTORY_BARS + number, count=1, seed=number)
        with timed() as bar:
            began = time.perf_counter()
            finished = run_due_bars(timeframe="1h")
            bar["whole"] = time.perf_counter() - began
        if [run.bar_open_time for run in finished] != [closed - HOUR] or finished[0].failures:
            raise RuntimeError(f"not one whole bar run: {finished}, {finished[0].failures}")
        if number >= WARMUP:
            for name, seconds in bar.items():
                spent[name].append(seconds)
    whole = statistics.median(spent["whole"])
    shares = {name: statistics.median(spent[name]) / whole for name in ("read", "compute", "write")}
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    p99 = sorted(spent["whole"])[round(0.99 * (BARS - 1))]
    strategies = len(hourly_strategies())
    claim = f"bar run, {count} instruments, {strategies} strategies"
    told = f"{told}; p99 {p99 * 1000:.0f} ms of {BARS} bars"
    return [Measure(f"{claim}, p50", whole * 1000, MOST_S[count] * 1000, "ms", 1.0, told)]


@contextlib.contextmanager
def timed() -> Iterator[dict[str, float]]:
    """The seconds that the parts of the bar runs within take."""
    spent = {"read": 0.0, "compute": 0.0, "write": 0.0}

    def watched(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                spent[part] += time.perf_counter() - began

        return run

    with (
        mock.patch.object(selectors, "load_history", watched("read", selectors.load_history)),
        mock.patch.object(bar_runs, "_compute", watched("compute", bar_runs._compute)),
        mock.patch.object(bar_runs, "_finish", watched("write", bar_runs._finish)),
    ):
        yield spent
    spent["compute"] -= spent["read"]  # the history is read within


def fill(count: int) -> list[Instrument]:
    """So many listed instruments with all the history that a bar run reads."""
    with connection.cursor() as cursor:
        tables = ", ".join(each._meta.db_table for each in (Instrument, BarRun, Series))
        cursor.execute(f"TRUNCATE {tables} CASCADE")
    instruments = [
        Instrument.objects.create(coin_id=coin_id, symbol=f"S{number}")
        for number, coin_id in enumerate(coin_ids(count))
    ]
    Listing.objects.bulk_create(
        Listing(
            instrument=each,
            exchange="binance",
            symbol=f"{each.symbol}USDT",
            tick_size="0.1",
            quantity_step="0.001",
        )
        for each in instruments
    )
    clock.configure(clock.MarketClock(start=NOW, anchor=clock.wall_now()))
    for first in range(0, count, 10):
        store(instruments[first : first + 10], first=0, count=HISTORY_BARS, seed=first)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE collectors_ohlcv")
    return instruments


def store(instruments: list[Instrument], *, first: int, count: int, seed: int) -> None:
    """Random hourly candles; bar HISTORY_BARS closes an hour after NOW."""
    rng = np.random.default_rng(seed)
    begin = NOW - (HISTORY_BARS + 1) * HOUR
    candles = {}
    for instrument in instruments:
        close = 100.0 * np.exp(np.cumsum(rng.standard_normal(count) * 0.006))
        candles[instrument] = [
            Candle(
                open_time=begin + (first + bar) * HOUR,
                open=price,
                high=price * 1.004,
                low=price * 0.996,
                close=price * 1.001,
                volume=volume,
                source="binance",
            )
            for bar, (price, volume) in enumerate(
                zip(close.tolist(), rng.lognormal(3.0, 1.0, count).tolist(), strict=True)
            )
        ]
    store_market(timeframe="1h", candles=candles)


def store_macro() -> None:
    """Every macro series that a strategy reads, released every day."""
    for name in sorted(
        {name for each in hourly_strategies().values() for name in each.macro_series}
    ):
        series = MacroSeries.objects.create(
            series_id=name, name=name, units="index", frequency="daily",
            last_success_at=NOW + timedelta(days=30),
        )  # fmt: skip
        days = [NOW - timedelta(days=back, hours=5) for back in range(-30, 200)]
        MacroObservation.objects.bulk_create(
            MacroObservation(
                series=series,
                date=at.date() - timedelta(days=1),
                value=20.0 + number % 7,
                realtime_start=at.date(),
                released_at=at,
                received_at=at,
            )
            for number, at in enumerate(days)
        )
