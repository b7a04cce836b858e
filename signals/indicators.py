"""Indicators over bars x instruments, each column by itself and NaN-free. Pure.

Inputs are (B, K) or (B,) float64 without NaN (one NaN would leave TA-Lib's RSI at 0.0, oversold,
for ever): ValueError otherwise. Outputs have the input's shape and hold a neutral value, named in
each docstring, until enough bars have been seen. Row t depends on rows up to t only. Recursive
indicators depend on where the history starts; `signals.driver.run_pinned` pins that. All of them
run along the bars, and are several times as fast on arrays that lie `by_column` in memory.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from signals.strategy import BoolArray, DirectionArray, FloatArray


def _import_talib() -> ModuleType:
    """TA-Lib as if pandas were not installed.

    It would import pandas only to accept its series beside arrays: half a second of start and
    60 MB in every process, and a wrapper around each call, for something never used here.
    """
    missing = object()
    pandas = sys.modules.get("pandas", missing)
    sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("talib")
    finally:
        if pandas is missing:
            del sys.modules["pandas"]
        else:
            sys.modules["pandas"] = pandas  # type: ignore[assignment]


talib = _import_talib()

RowArray = NDArray[np.int32]

SMALLEST = 1e-12
NEVER = np.int32(-(2**30))
NO_DIRECTION = np.int8(0)


def by_column(values: FloatArray) -> FloatArray:
    """The same (B, K) values with the bars of a column side by side in memory."""
    return np.asfortranarray(values)


def rsi(close: FloatArray, period: int) -> FloatArray:
    """Wilder's relative strength index, 0 to 100; 50 until `period` bars have passed.

    Also 50 where the last `period` bars did not move at all, where TA-Lib says 0. Prices are
    scaled by the first one, so that very small prices do not look like no movement to TA-Lib.
    Source: J. Welles Wilder, New Concepts in Technical Trading Systems, 1978.
    """
    _check_finite(close)
    strength = _by_column(
        close, lambda column: talib.RSI(column / _scale(column), timeperiod=period), 50.0
    )
    moved = np.zeros_like(close, dtype=np.bool_)
    moved[1:] = close[1:] != close[:-1]
    return np.where(bars_since(moved) < period, strength, 50.0)


def atr(high: FloatArray, low: FloatArray, close: FloatArray, period: int) -> FloatArray:
    """Wilder's average true range, in price; the mean of the true ranges so far until `period` of
    them have been seen after the first bar, whose own range is its high less its low.

    A bar that carries a price, or was built from samples with a flat high and low, has no range
    but the step from the last close: there the result is the mean absolute change of the closes,
    less than the range that was traded. Source: as `rsi`.
    """
    for prices in (high, low, close):
        _check_finite(prices)
    before = previous(close)
    reach = np.maximum(high, before) - np.minimum(low, before)
    count = np.arange(1, len(close) + 1, dtype=np.float64)[:, np.newaxis]
    early = np.cumsum(reach, axis=0) / count
    found = np.empty(close.shape, order="F")
    for column in range(close.shape[1]):
        scale = _scale(close[:, column])
        parts = (np.ascontiguousarray(prices[:, column]) / scale for prices in (high, low, close))
        found[:, column] = talib.ATR(*parts, timeperiod=period) * scale
    return np.where(np.isnan(found), early, found)


def rolling_std(values: FloatArray, window: int) -> FloatArray:
    """The population standard deviation of the last `window` (at least 2) bars.

    0 until there are so many, and exactly 0 where they are all alike. For values around 0, such as
    returns: it is the difference of two running sums.
    """
    _check_finite(values)
    found = _by_column(values, lambda column: talib.STDDEV(column, timeperiod=window), 0.0)
    return np.where(_varied(values, window), found, 0.0)


def rolling_max(values: FloatArray, window: int) -> FloatArray:
    """The highest of the last `window` bars, of those there are at the start."""
    _check_finite(values)
    if window == 1:
        return values.copy()
    early = np.maximum.accumulate(values, axis=0)
    late = _by_column(values, lambda column: talib.MAX(column, timeperiod=window), np.nan)
    return np.where(np.isnan(late), early, late)


def previous_range(high: FloatArray, low: FloatArray, window: int) -> tuple[FloatArray, FloatArray]:
    """The highest high and the lowest low of the `window` bars before each bar, its own excluded;
    of those there are at the start, and the first bar's own at the first.

    Source: Richard Donchian's channel, as in Curtis Faith, Way of the Turtle, 2007.
    """
    top, bottom = rolling_max(high, window), -rolling_max(-low, window)
    return previous(top), previous(bottom)


def previous(values: FloatArray) -> FloatArray:
    """The values of the bar before; at the first bar its own."""
    before = values.copy("K")
    before[1:] = values[:-1]
    return before


def drawdown(close: FloatArray, high: FloatArray, window: int) -> FloatArray:
    """How far the close lies below the highest high of the last `window` bars, as a fraction."""
    return 1.0 - close / rolling_max(high, window)


def log_change(values: FloatArray, distance: int) -> FloatArray:
    """ln(value / value `distance` bars before); 0 until there is one.

    Values below 1e-12 count as 1e-12: a series without any value reads as zeros.
    """
    return change(logarithm(values), distance)


def logarithm(values: FloatArray) -> FloatArray:
    """The natural logarithm, of values below 1e-12 that of 1e-12."""
    _check_finite(values)
    return np.asarray(np.log(np.maximum(values, SMALLEST)))


def change(values: FloatArray, distance: int) -> FloatArray:
    """The value less that of `distance` bars before; 0 until there is one."""
    found = np.zeros_like(values)
    found[distance:] = values[distance:] - values[:-distance]
    return found


def rolling_correlation(values: FloatArray, other: FloatArray, window: int) -> FloatArray:
    """Pearson's correlation of each column with `other` (B,) over the last `window` bars.

    0 until `window` bars have passed, and where either side did not vary.
    """
    _check_finite(values)
    _check_finite(other)
    partner = np.ascontiguousarray(other)
    found = _by_column(values, lambda column: talib.CORREL(column, partner, window), 0.0)
    varied = _varied(values, window) & _varied(partner, window)[:, np.newaxis]
    return np.where(varied, np.clip(found, -1.0, 1.0), 0.0)


def percentile_rank(values: FloatArray, window: int, every: int = 1) -> FloatArray:
    """The share of the last `window` values that are at or below the newest, in (0, 1].

    With `every`, of each `every`-th of them, counted back from the newest. Before `window` bars
    have passed, of those there are. `values` is (B,) or (B, K).
    """
    _check_finite(values)
    total = np.zeros_like(values, dtype=np.int64)
    part = np.ones_like(values, dtype=np.uint8)  # the newest is never above itself
    for number, distance in enumerate(range(every, min(window, len(values)), every), start=1):
        part[distance:] += (values[:-distance] <= values[distance:]).view(np.uint8)
        if number % 254 == 0:  # a byte holds no more
            total += part
            part[:] = 0
    seen = np.minimum(np.arange(len(values)), window - 1) // every + 1
    return np.asarray((total + part) / seen.reshape(-1, *([1] * (values.ndim - 1))))


def bars_since(condition: BoolArray) -> RowArray:
    """Bars since `condition` (B,) or (B, K) last held, 0 where it holds; huge until it ever did."""
    rows = np.arange(len(condition), dtype=np.int32).reshape(-1, *([1] * (condition.ndim - 1)))
    last = np.where(condition, rows, NEVER)
    np.maximum.accumulate(last, axis=0, out=last)
    return np.asarray(rows - last, dtype=np.int32)


def held(entry: BoolArray, leave: BoolArray, hold: int) -> BoolArray:
    """Whether a state entered at the last `entry` is still held: fewer than `hold` bars ago and
    with no `leave` since (a bar that says both enters)."""
    since = bars_since(entry)
    return np.asarray((since < hold) & (bars_since(leave) >= since))


def first_after_quiet(condition: BoolArray, quiet: int) -> BoolArray:
    """Where `condition` (B, K) holds after `quiet` bars at least without it."""
    is_first = condition.copy("K")
    is_first[1:] &= bars_since(condition)[:-1] >= quiet
    return is_first


def run_starts(direction: DirectionArray, renewed: BoolArray | None = None) -> RowArray:
    """The row at which the present run of equal direction (B, K) began, or the last bar of it at
    which it was `renewed` (B,)."""
    changed = np.ones_like(direction, dtype=np.bool_)
    changed[1:] = direction[1:] != direction[:-1]
    if renewed is not None:
        changed |= renewed[:, np.newaxis]
    return _rows(direction) - bars_since(changed)


def at_rows(values: FloatArray, rows: RowArray) -> FloatArray:
    """`values` (B, K) as they were at the given row (B, K) of each column."""
    found = np.empty_like(values)
    for column in range(values.shape[1]):
        found[:, column] = values[rows[:, column], column]
    return found


def at_run_start(direction: DirectionArray, values: FloatArray) -> FloatArray:
    """`values` as they were at the first bar of the present run of equal direction (B, K)."""
    return at_rows(values, run_starts(direction))


def until_hit(
    direction: DirectionArray,
    began: RowArray,
    close: FloatArray,
    stop: FloatArray,
    target: FloatArray,
) -> DirectionArray:
    """`direction`, but flat from the bar that closed at or beyond its stop or target on, until the
    next run begins (`began` as of `run_starts`). A stop or target of NaN is never reached."""
    is_long, is_short = direction > 0, direction < 0
    hit = is_long & ((close <= stop) | (close >= target))
    hit |= is_short & ((close >= stop) | (close <= target))
    return np.where(_rows(direction) - bars_since(hit) >= began, NO_DIRECTION, direction)


def _rows(values: DirectionArray) -> RowArray:
    return np.arange(len(values), dtype=np.int32)[:, np.newaxis]


def _by_column(
    values: FloatArray, indicator: Callable[[FloatArray], FloatArray], neutral: float
) -> FloatArray:
    result = np.empty(values.shape, order="F")
    for column in range(values.shape[1]):
        found = indicator(np.ascontiguousarray(values[:, column]))
        result[:, column] = np.where(np.isnan(found), neutral, found)
    return result


def _scale(column: FloatArray) -> float:
    """The first price, or 1: TA-Lib takes very small numbers for zero."""
    return float(column[0]) if len(column) and column[0] != 0.0 else 1.0


def _varied(values: FloatArray, window: int) -> BoolArray:
    """Whether the last `window` values are not all alike."""
    moved = np.zeros_like(values, dtype=np.bool_)
    moved[1:] = values[1:] != values[:-1]
    return np.asarray(bars_since(moved) < window - 1)


def _check_finite(values: FloatArray) -> None:
    if not np.isfinite(values).all():
        raise ValueError("indicators take finite values only; carry holes forward first")
