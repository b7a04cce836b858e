"""Indicators over bars x instruments, each column by itself and NaN-free. Pure.

Inputs are (B, K) or (B,) float64 without NaN (one NaN would leave TA-Lib's RSI at 0.0, oversold,
for ever): ValueError otherwise. Outputs have the input's shape and hold a neutral value, named in
each docstring, until enough bars have been seen. Row t depends on rows up to t only. Recursive
indicators depend on where the history starts; `signals.driver.run_pinned` pins that.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from signals.strategy import BoolArray, DirectionArray, FloatArray, IntArray


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

SMALLEST = 1e-12


def rsi(close: FloatArray, period: int) -> FloatArray:
    """Wilder's relative strength index, 0 to 100; 50 until `period` bars have passed.

    Also 50 where the last `period` bars did not move at all, where TA-Lib says 0. Prices are
    scaled by the first one, so that very small prices do not look like no movement to TA-Lib.
    Source: J. Welles Wilder, New Concepts in Technical Trading Systems, 1978.
    """
    _check_finite(close)
    scaled = close / np.where(close[:1] == 0.0, 1.0, close[:1])
    strength = _by_column(scaled, lambda column: talib.RSI(column, timeperiod=period), 50.0)
    moved = np.zeros(close.shape, dtype=np.bool_)
    moved[1:] = close[1:] != close[:-1]
    return np.where(bars_since(moved) < period, strength, 50.0)


def rolling_max(values: FloatArray, window: int) -> FloatArray:
    """The highest of the last `window` bars, of those there are at the start."""
    _check_finite(values)
    early = np.maximum.accumulate(values, axis=0)
    late = _by_column(values, lambda column: talib.MAX(column, timeperiod=window), np.nan)
    return np.where(np.isnan(late), early, late)


def drawdown(close: FloatArray, high: FloatArray, window: int) -> FloatArray:
    """How far the close lies below the highest high of the last `window` bars, as a fraction."""
    return 1.0 - close / rolling_max(high, window)


def log_change(values: FloatArray, distance: int) -> FloatArray:
    """ln(value / value `distance` bars before); 0 until there is one.

    Values below 1e-12 count as 1e-12: a series without any value reads as zeros.
    """
    _check_finite(values)
    logs = np.log(np.maximum(values, SMALLEST))
    change = np.zeros_like(logs)
    change[distance:] = logs[distance:] - logs[:-distance]
    return np.asarray(change)


def rolling_correlation(values: FloatArray, other: FloatArray, window: int) -> FloatArray:
    """Pearson's correlation of each column with `other` (B,) over the last `window` bars.

    0 until `window` bars have passed, and where either side did not vary.
    """
    _check_finite(values)
    _check_finite(other)
    partner = np.ascontiguousarray(other)
    found = _by_column(values, lambda column: talib.CORREL(column, partner, window), 0.0)
    return np.asarray(np.clip(found, -1.0, 1.0))


def percentile_rank(values: FloatArray, window: int) -> FloatArray:
    """The share of the last `window` values (B,) that are at or below the newest, in [0, 1].

    Before `window` bars have passed, of those there are.
    """
    _check_finite(values)
    padded = np.concatenate([np.full(window - 1, np.inf), values])
    at_or_below = (sliding_window_view(padded, window) <= values[:, np.newaxis]).sum(axis=1)
    return np.asarray(at_or_below / np.minimum(np.arange(1, len(values) + 1), window))


def bars_since(condition: BoolArray) -> IntArray:
    """Bars since `condition` (B,) or (B, K) last held, 0 where it holds; huge until it ever did."""
    never = np.int64(-(2**40))
    index = np.arange(len(condition), dtype=np.int64).reshape(-1, *([1] * (condition.ndim - 1)))
    last = np.maximum.accumulate(np.where(condition, index, never), axis=0)
    return np.asarray(index - last, dtype=np.int64)


def held(entry: BoolArray, leave: BoolArray, hold: int) -> BoolArray:
    """Whether a state entered at the last `entry` is still held: fewer than `hold` bars ago and
    with no `leave` since (a bar that says both enters)."""
    since = bars_since(entry)
    return np.asarray((since < hold) & (bars_since(leave) >= since))


def at_run_start(direction: DirectionArray, values: FloatArray) -> FloatArray:
    """`values` as they were at the first bar of the present run of equal direction (B, K)."""
    changed = np.ones(direction.shape, dtype=np.bool_)
    changed[1:] = direction[1:] != direction[:-1]
    rows = np.arange(len(direction), dtype=np.int64)[:, np.newaxis] - bars_since(changed)
    return np.asarray(np.take_along_axis(values, rows, axis=0))


def _by_column(
    values: FloatArray, indicator: Callable[[FloatArray], FloatArray], neutral: float
) -> FloatArray:
    result = np.full(values.shape, neutral)
    for column in range(values.shape[1]):
        found = indicator(np.ascontiguousarray(values[:, column]))
        result[:, column] = np.where(np.isnan(found), neutral, found)
    return result


def _check_finite(values: FloatArray) -> None:
    if not np.isfinite(values).all():
        raise ValueError("indicators take finite values only; carry holes forward first")
