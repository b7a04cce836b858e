"""What the market was like at a moment: volatility, volume traded, correlation. Pure; compiles.

Computed from hourly candles that were closed by then, by the same loops for paper trading and for a
backtest: whatever the arrays around the window, the same candles give the same bits. NaN is
"unknown": too little of the window was really observed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]

HOUR_MS = 3_600_000
DAY_HOURS = 24
DAY_MS = DAY_HOURS * HOUR_MS
HOURS = 24  # returns in the 24-hour volatility, bars in the volume
DAYS = 30  # daily closes
LEAST_HOURS = 12  # real bars of a window of hours, below which it says nothing
LEAST_DAYS = 20
# Hours before a moment that its facts may read: whole days, and the day that is not over.
LEAD_HOURS = (DAYS + 1) * DAY_HOURS


@dataclass(frozen=True, kw_only=True)
class Hours:
    """B hourly bars of the whole grid by K instruments, from `first_open` (epoch ms) on.

    A hole carries the last close and is not `valid`; `quote_volume` is NaN where no true volume is
    known.
    """

    coin_ids: tuple[str, ...]
    first_open: int
    close: Doubles  # (B, K)
    valid: Flags  # (B, K)
    quote_volume: Doubles  # (B, K)


class InstrumentFacts(NamedTuple):
    """One instrument at one moment. NaN is unknown.

    `volatility_24h` is the standard deviation of the return over 24 hours, by the last 24 hourly
    returns; `daily_volatility` that of a day, by 30 daily closes (NaN where a day had no bar);
    `quote_volume_24h` at least this much was traded, in quote units.
    """

    volatility_24h: float
    daily_volatility: float
    quote_volume_24h: float
    daily_returns: tuple[float, ...]  # (29,), oldest first


UNKNOWN = InstrumentFacts(math.nan, math.nan, math.nan, (math.nan,) * (DAYS - 1))


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The facts of instruments and the sectors they belong to, by coin id."""

    facts: Mapping[str, InstrumentFacts] = field(default_factory=dict)
    sectors: Mapping[str, str] = field(default_factory=dict)

    def of(self, coin_id: str) -> InstrumentFacts:
        """The instrument's facts; unknown ones when nobody gave any."""
        return self.facts.get(coin_id, UNKNOWN)


def facts_at(hours: Hours, column: int, moment: int) -> InstrumentFacts:
    """The facts of an instrument at a moment (epoch ms), from bars that were closed by then."""
    closed = (moment - hours.first_open) // HOUR_MS
    close = hours.close[:, column]
    valid = hours.valid[:, column]
    returns = returns_at(hours, column, moment, DAYS)
    return InstrumentFacts(
        volatility_24h=hourly_volatility(close, valid, closed),
        daily_volatility=daily_volatility(returns),
        quote_volume_24h=float(traded_volume(hours.quote_volume[:, column], closed)),
        daily_returns=returns,
    )


def returns_at(hours: Hours, column: int, moment: int, days: int) -> tuple[float, ...]:
    """(days - 1,): an instrument's returns between the closes of the last `days` whole days."""
    # Days are counted from the epoch; the first bar need not begin one.
    midnight = (moment // DAY_MS * DAY_MS - hours.first_open) // HOUR_MS
    closes = daily_closes(hours.close[:, column], hours.valid[:, column], midnight, days)
    return tuple(daily_returns(closes).tolist())


def hourly_volatility(close: Doubles, valid: Flags, stop: int) -> float:
    """The sample deviation of the 24 returns before bar `stop`, times the root of 24."""
    start = stop - HOURS
    if start < 1 or stop > len(close):
        return math.nan
    real = 0
    total = 0.0
    for bar in range(start, stop):
        real += 1 if valid[bar] else 0
        total += close[bar] / close[bar - 1] - 1.0
    if real < LEAST_HOURS:
        return math.nan
    mean = total / HOURS
    squares = 0.0
    for bar in range(start, stop):
        away = close[bar] / close[bar - 1] - 1.0 - mean
        squares += away * away
    return math.sqrt(squares / (HOURS - 1) * HOURS)


def traded_volume(quote_volume: Doubles, stop: int) -> float:
    """What is known to have traded in the 24 bars before `stop`; NaN when half are unknown."""
    start = stop - HOURS
    if start < 0 or stop > len(quote_volume):
        return math.nan
    known = 0
    total = 0.0
    for bar in range(start, stop):
        if not math.isnan(quote_volume[bar]):
            known += 1
            total += quote_volume[bar]
    if known < LEAST_HOURS:
        return math.nan
    return total


def daily_closes(close: Doubles, valid: Flags, midnight: int, days: int) -> Doubles:
    """(days,): the last close of each day before bar `midnight`; NaN for a day without a bar."""
    closes = np.full(days, math.nan)
    for day in range(days):
        stop = midnight - (days - 1 - day) * DAY_HOURS
        if stop < DAY_HOURS or stop > len(close):
            continue
        for back in range(1, DAY_HOURS + 1):
            if valid[stop - back]:
                closes[day] = close[stop - back]
                break
    return closes


def daily_returns(closes: Doubles) -> Doubles:
    """(N - 1,): the change from each close to the next, as a fraction; NaN beside a NaN."""
    returns = np.full(len(closes) - 1, math.nan)
    for day in range(1, len(closes)):
        returns[day - 1] = closes[day] / closes[day - 1] - 1.0
    return returns


def daily_volatility(returns: Sequence[float]) -> float:
    """The sample deviation of the daily returns; NaN with fewer than 20 known closes."""
    count = 0
    total = 0.0
    for change in returns:
        if not math.isnan(change):
            count += 1
            total += change
    if count < LEAST_DAYS - 1:
        return math.nan
    mean = total / count
    squares = 0.0
    for change in returns:
        if not math.isnan(change):
            squares += (change - mean) * (change - mean)
    return math.sqrt(squares / (count - 1))


def pair_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's correlation of the daily returns that both have, in [-1, 1].

    NaN with fewer than 19 in common (of 20 closes), or when one did not move.
    """
    count = 0
    sum_first, sum_second = 0.0, 0.0
    for day in range(len(first)):
        if not (math.isnan(first[day]) or math.isnan(second[day])):
            count += 1
            sum_first += first[day]
            sum_second += second[day]
    if count < LEAST_DAYS - 1:
        return math.nan
    mean_first, mean_second = sum_first / count, sum_second / count
    product, square_first, square_second = 0.0, 0.0, 0.0
    for day in range(len(first)):
        if not (math.isnan(first[day]) or math.isnan(second[day])):
            away_first, away_second = first[day] - mean_first, second[day] - mean_second
            product += away_first * away_second
            square_first += away_first * away_first
            square_second += away_second * away_second
    scale = math.sqrt(square_first) * math.sqrt(square_second)
    if scale <= 0.0:
        return math.nan
    return max(-1.0, min(1.0, product / scale))
