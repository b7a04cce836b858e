"""Sixty one-minute candles inside an hourly one, meeting it to the last unit. Pure.

A seeded random walk is tied to the hour's open and close (a Brownian bridge), its excursions
above and below both are stretched so that they end at the hour's high and low, and the volume is
spread over the minutes with more where the price moved. Integers in, integers out: the sixty
minutes aggregate to exactly the hour they came from.
"""

import numpy as np
from numpy.typing import NDArray

from sandbox.bars import Ints
from sandbox.noise import mix_many, uniform_many

MINUTES = 60


def minute_candles(hours: Ints, key: int, hour_numbers: Ints) -> Ints:
    """One-minute candles of hourly ones.

    `hours` has shape (5, n): open, high, low, close, volume as integers with
    low <= open, close <= high; `hour_numbers` (n) seeds each hour on its own. Returns shape
    (5, n * 60), contiguous: each minute opens where the one before closed.
    """
    count = hours.shape[1]
    draws = _draws(key, hour_numbers)
    path = _path(hours, draws[:, :60])
    opens, closes = path[:, :-1], path[:, 1:]
    highs, lows = _extremes(hours, opens, closes, draws[:, 60:180])
    volumes = _volumes(hours, opens, closes, draws[:, 180:])
    return np.stack([opens, highs, lows, closes, volumes]).reshape(5, count * MINUTES)


def _draws(key: int, hour_numbers: Ints) -> NDArray[np.float64]:
    keys = mix_many(key, hour_numbers)
    return uniform_many(keys[:, None], np.arange(240, dtype=np.int64)[None, :])


def _path(hours: Ints, steps: NDArray[np.float64]) -> Ints:
    """The price at the 61 minute boundaries, shape (n, 61), within low and high."""
    first, high, low, last = (hours[row].astype(np.float64)[:, None] for row in range(4))
    walk = np.concatenate([np.zeros_like(first), np.cumsum(steps - 0.5, axis=1)], axis=1)
    share = np.arange(MINUTES + 1) / MINUTES
    bridge = walk - share * walk[:, -1:]
    widest = np.abs(bridge).max(axis=1, keepdims=True)
    path = first + (last - first) * share + bridge / np.maximum(widest, 1e-9) * (high - low) * 0.7
    upper, lower = np.maximum(first, last), np.minimum(first, last)
    reach_up = np.maximum(path.max(axis=1, keepdims=True) - upper, 1e-9)
    reach_down = np.maximum(lower - path.min(axis=1, keepdims=True), 1e-9)
    path = np.where(path > upper, upper + (path - upper) * ((high - upper) / reach_up), path)
    path = np.where(path < lower, lower - (lower - path) * ((lower - low) / reach_down), path)
    rounded = np.rint(path).astype(np.int64)
    prices: Ints = np.clip(rounded, hours[2][:, None], hours[1][:, None])
    prices[:, 0] = hours[0]
    prices[:, -1] = hours[3]
    return prices


def _extremes(
    hours: Ints, opens: Ints, closes: Ints, draws: NDArray[np.float64]
) -> tuple[Ints, Ints]:
    wick = (hours[1] - hours[2])[:, None] * 0.06
    ups = np.floor(wick * draws[:, :MINUTES] ** 3).astype(np.int64)
    downs = np.floor(wick * draws[:, MINUTES:] ** 3).astype(np.int64)
    highs = np.minimum(np.maximum(opens, closes) + ups, hours[1][:, None])
    lows = np.maximum(np.minimum(opens, closes) - downs, hours[2][:, None])
    index = np.arange(hours.shape[1])
    highs[index, highs.argmax(axis=1)] = hours[1]
    lows[index, lows.argmin(axis=1)] = hours[2]
    return highs, lows


def _volumes(hours: Ints, opens: Ints, closes: Ints, draws: NDArray[np.float64]) -> Ints:
    width = np.maximum(hours[1] - hours[2], 1)[:, None]
    weights = 0.2 + draws + 4.0 * np.abs(closes - opens) / width
    shares = np.cumsum(weights, axis=1)
    cuts = np.floor(hours[4][:, None] * (shares / shares[:, -1:])).astype(np.int64)
    cuts[:, -1] = hours[4]
    volumes: Ints = np.diff(cuts, axis=1, prepend=0)
    return volumes
