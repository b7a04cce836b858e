"""Momentum: follow what has been rising or falling over several horizons. Pure.

Rule: over each of 3, 7, 14 and 28 days the log return is divided by what a random walk of the
realised volatility (standard deviation of hourly log returns over 14 days) moves in that time, and
cut to [-1, 1]. The score is the mean of the four. Long is entered at a score of `entry_score` or
more, short at its negative; the state is left when the score has come back inside `exit_score`, or
`hold_bars` after the last bar beyond the entry. Between the two thresholds nothing changes, so the
state does not flip with every bar. The stop lies `stop_atr` of Wilder's average true ranges from
the close at entry (at least 0.2% and at most half of it); there is no target. The size is
`position_size` times `target_volatility` over the realised one, at most `max_size`. A state that
lasts into a new week (Monday, 00:00 UTC) gets stop and size anew; after a close beyond the stop
it is flat until the week is over or the score has let go of it. Confidence is the score's absolute
value.

Source: Moskowitz, Ooi and Pedersen, "Time Series Momentum", Journal of Financial Economics 2012:
sign of the past return, positions scaled by volatility and renewed at fixed dates. Adapted: days
instead of months, since crypto's trends are shorter (Liu and Tsyvinski, "Risks and Returns of
Cryptocurrency", Review of Financial Studies 2021), the size of the return beside its sign, and
thresholds.

Failure modes: markets without a trend, where each swing is followed late; a reversal, which the
longer horizons see days later; the horizons overlap, so their agreement is worth less than it
looks; a jump enters the volatility for 14 days and mutes the rule meanwhile; on bars built from
price samples the average true range is the mean absolute change of closes, less than the range
traded, so that stops lie closer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from signals.indicators import (
    at_rows,
    atr,
    by_column,
    change,
    held,
    logarithm,
    rolling_std,
    run_starts,
    until_hit,
)
from signals.parameters import parameter
from signals.strategy import (
    Analysis,
    BoolArray,
    DirectionArray,
    FloatArray,
    IntArray,
    Market,
    Strategy,
)

DAY = 24
WEEK = 7 * DAY
HORIZON_DAYS = (3, 7, 14, 28)
VOLATILITY_BARS = 14 * DAY
ATR_PERIOD = 48
BARS_PER_YEAR = 365 * DAY
LEAST_DISTANCE, GREATEST_DISTANCE = 0.002, 0.5  # of the price at entry
DAY_MS = 86_400_000
MONDAY = 4  # days since 1970-01-01, a Thursday


@dataclass(frozen=True, kw_only=True)
class Momentum(Strategy):
    """The rule of this module with its parameters."""

    name: ClassVar[str] = "momentum"
    timeframe: ClassVar[str] = "1h"

    entry_score: float = parameter(low=0.05, high=1.0, unit="score", text="entered at, either side")
    exit_score: float = parameter(low=0.0, high=1.0, unit="score", text="left below")
    hold_bars: int = parameter(
        low=1, high=WEEK, unit="bars", text="kept at most, after the last bar beyond entry"
    )
    stop_atr: float = parameter(low=0.1, high=100.0, unit="average true ranges", text="stop")
    target_volatility: float = parameter(
        low=0.05, high=2.0, unit="fraction a year", text="volatility at which the size is as given"
    )
    position_size: float = parameter(
        low=0.001, high=0.1, unit="fraction of equity", text="size at the target volatility"
    )
    max_size: float = parameter(low=0.001, high=0.2, unit="fraction of equity", text="at most")

    @property
    def lookback(self) -> int:
        """The longest horizon, the longest state after its last entry bar, and a week."""
        return HORIZON_DAYS[-1] * DAY + self.hold_bars + WEEK

    def analyze(self, market: Market) -> Analysis:
        """The wanted state at every bar."""
        close, high, low = (by_column(each) for each in (market.close, market.high, market.low))
        logs = logarithm(close)
        volatility = rolling_std(change(logs, 1), VOLATILITY_BARS)
        by_days = {days: _scaled_change(logs, volatility, days * DAY) for days in HORIZON_DAYS}
        score = np.zeros_like(close)
        for scaled in by_days.values():
            score += np.clip(scaled, -1.0, 1.0) / len(by_days)
        raw = self._state(score)
        began = run_starts(raw, renewed=_week_begins(market.open_time))
        reach = atr(high, low, close, ATR_PERIOD)
        entered_at = at_rows(close, began)
        stop = entered_at - raw * self._stop_distance(at_rows(reach, began), entered_at)
        none = np.full_like(close, np.nan)
        yearly = volatility * math.sqrt(BARS_PER_YEAR)
        return Analysis(
            direction=until_hit(raw, began, close, stop, none),
            confidence=np.minimum(np.abs(score), 1.0),
            stop_loss=stop,
            take_profit=none,
            position_size=at_rows(self._size(yearly), began),
            diagnostics={f"return_{days}d": scaled for days, scaled in by_days.items()}
            | {"score": score, "volatility": yearly, "atr": reach},
        )

    def _state(self, score: FloatArray) -> DirectionArray:
        within = min(self.exit_score, self.entry_score)
        long = held(score >= self.entry_score, score < within, self.hold_bars)
        short = held(score <= -self.entry_score, score > -within, self.hold_bars)
        return long.astype(np.int8) - short.astype(np.int8)

    def _stop_distance(self, reach: FloatArray, price: FloatArray) -> FloatArray:
        least, greatest = LEAST_DISTANCE * price, GREATEST_DISTANCE * price
        return np.minimum(np.maximum(self.stop_atr * reach, least), greatest)

    def _size(self, yearly: FloatArray) -> FloatArray:
        scale = self.target_volatility / np.where(yearly > 0.0, yearly, self.target_volatility)
        return np.asarray(np.minimum(self.position_size * scale, self.max_size))


def _scaled_change(logs: FloatArray, volatility: FloatArray, bars: int) -> FloatArray:
    """The log return over `bars` in standard deviations of a random walk; 0 without volatility."""
    scale = np.where(volatility > 0.0, volatility * math.sqrt(bars), np.inf)
    return np.asarray(change(logs, bars) / scale)


def _week_begins(open_time: IntArray) -> BoolArray:
    """Where a bar is the first that opens in its week, of those given."""
    week = (open_time // DAY_MS - MONDAY) // 7
    begins = np.zeros(len(week), dtype=np.bool_)
    begins[1:] = week[1:] != week[:-1]
    return begins
