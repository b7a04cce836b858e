"""A tier's tick when nothing is lacking: what it costs for few and for many instruments."""

from __future__ import annotations

from datetime import timedelta

from benchmarks.measures import Measure, in_turns
from collectors import clock, tasks
from collectors.marketdata import Candle, floor_time
from collectors.models import CollectionState, Instrument
from collectors.services import store_market

FEW, MANY, RUNS = 10, 1000, 7
HOUR = timedelta(hours=1)


def measure_ticks() -> Measure:
    """The time of one instrument in a tick of a thousand, beside that in a tick of ten."""
    # Half past: no bar closes while we measure.
    now = floor_time(clock.wall_now(), "1d") + timedelta(minutes=30)
    before = clock.current()
    clock.configure(clock.MarketClock(start=now, anchor=clock.wall_now(), speed=1.0))
    try:
        Instrument.objects.update(is_enabled=False)
        few = _tick_of(FEW, now)
        many = _tick_of(MANY, now)
    finally:
        clock.configure(before)
    return Measure(
        "tick of 1,000 instruments, each, beside of 10", many / MANY * 1e6, few / FEW * 1e6, "us",
        1.5, f"whole ticks: {many * 1000:.1f} ms and {few * 1000:.1f} ms",
    )  # fmt: skip


def _tick_of(count: int, now: object) -> float:
    have = Instrument.objects.filter(coin_id__startswith="tick-").count()
    instruments = [
        Instrument(coin_id=f"tick-{number}", symbol=f"T{number}", tier="hourly")
        for number in range(have, count)
    ]
    Instrument.objects.bulk_create(instruments)
    newest = floor_time(clock.now(), "1h")
    bars = [
        Candle(
            open_time=newest - hour * HOUR, open=2.0, high=3.0, low=1.0, close=2.0, volume=1.0,
            source="binance",
        )
        for hour in range(1, 30)
    ]  # fmt: skip
    store_market(timeframe="1h", candles=dict.fromkeys(instruments, bars))
    CollectionState.objects.bulk_create(
        CollectionState(
            instrument=instrument, timeframe="1h", last_success_at=clock.now(), attempts=1,
            successes=1, history_from=bars[-1].open_time,
        )
        for instrument in instruments
    )  # fmt: skip
    (seconds,) = in_turns(RUNS, lambda: tasks.collect_tier("hourly"))
    return seconds
