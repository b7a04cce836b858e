"""What a path shows at a moment: never the future, always the same candles."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.bars import HOUR_MS, HourlyBars
from sandbox.path import DAY_MS, MINUTE_MS, PricePath

FIRST_HOUR = 450_000
FIRST_MS = FIRST_HOUR * HOUR_MS
HOURS = 72


def make_path() -> PricePath:
    """Three days with a hole of two hours."""
    rng = np.random.default_rng(3)
    closes = 50_000 + np.cumsum(rng.integers(-300, 300, HOURS))
    opens = np.concatenate([[50_000], closes[:-1]])
    highs = np.maximum(opens, closes) + rng.integers(0, 200, HOURS)
    lows = np.minimum(opens, closes) - rng.integers(0, 200, HOURS)
    bars = HourlyBars(FIRST_HOUR, 2, 3)
    bars.append(np.stack([opens, highs, lows, closes, rng.integers(0, 10**6, HOURS)]))
    bars.present[30:32] = False
    bars.rows[:, 30:32] = 0
    return PricePath(bars, 11, lambda hour: None)


PATH = make_path()
moments = st.integers(FIRST_MS, FIRST_MS + HOURS * HOUR_MS - 1)


@given(moments, st.sampled_from([1, 5, 15, 60, 240, 1440]))
@settings(deadline=None)
def test_candles_seen_early_are_those_seen_late(now_ms: int, minutes: int) -> None:
    size_ms = minutes * MINUTE_MS
    early = PATH.candles(minutes, FIRST_MS, now_ms + 1, now_ms)
    late = PATH.candles(minutes, FIRST_MS, now_ms + 1, FIRST_MS + 5 * DAY_MS)
    closed = [bar for bar in early if bar.open_ms + size_ms <= now_ms]
    assert closed == [bar for bar in late if bar.open_ms + size_ms <= now_ms]
    forming = [bar for bar in early if bar.open_ms + size_ms > now_ms]
    assert len(forming) <= 1
    for bar in forming:
        whole = next(bar_late for bar_late in late if bar_late.open_ms == bar.open_ms)
        assert bar.open == whole.open
        assert whole.low <= bar.low <= bar.close <= bar.high <= whole.high
        assert bar.volume <= whole.volume


@given(moments)
@settings(deadline=None)
def test_the_price_lies_in_its_minute(now_ms: int) -> None:
    price = PATH.price_at(now_ms)
    assert price is not None
    minute = PATH.candle(1, now_ms // MINUTE_MS * MINUTE_MS)
    if minute:
        assert minute.low <= price <= minute.high
        assert PATH.forming(1, now_ms).close == round(price)
    else:
        before = PATH.candle(60, FIRST_MS + 29 * HOUR_MS)
        assert price == before.close


def test_larger_candles_aggregate_smaller_ones_around_holes() -> None:
    now_ms = FIRST_MS + HOURS * HOUR_MS
    minutes = {bar.open_ms: bar for bar in PATH.candles(1, FIRST_MS, now_ms, now_ms)}
    assert len(minutes) == (HOURS - 2) * 60
    for size in (15, 60, 240, 1440):
        for bar in PATH.candles(size, FIRST_MS, now_ms, now_ms):
            inside = [
                minutes[ms]
                for ms in range(bar.open_ms, bar.open_ms + size * MINUTE_MS, MINUTE_MS)
                if ms in minutes
            ]
            assert bar.open == inside[0].open
            assert bar.close == inside[-1].close
            assert bar.high == max(minute.high for minute in inside)
            assert bar.low == min(minute.low for minute in inside)
            assert bar.volume == sum(minute.volume for minute in inside)


def test_rolling_figures() -> None:
    now_ms = FIRST_MS + 60 * HOUR_MS
    day = PATH.day_summary(now_ms)
    minutes = PATH.candles(1, now_ms - DAY_MS, now_ms, now_ms)
    assert day.first == minutes[0].open
    assert day.volume == sum(minute.volume for minute in minutes)
    assert day.high >= max(minute.high for minute in minutes)
    hours = PATH.candles(60, now_ms - DAY_MS, now_ms, now_ms)
    turnover = sum(sum(bar[1:5]) / 4 / 100 * bar.volume / 1000 for bar in hours)
    assert abs(day.turnover - turnover) < 1e-6 * turnover


def test_nothing_before_the_listing() -> None:
    assert PATH.price_at(FIRST_MS - 1) is None
    assert PATH.candles(60, 0, FIRST_MS, FIRST_MS - 1) == []
    assert np.isnan(PATH.prices_at(np.array([FIRST_MS - HOUR_MS]))).all()
