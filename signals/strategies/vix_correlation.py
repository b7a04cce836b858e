"""VIX correlation: trade the link between an asset and the fear of the stock market. Pure.

Rule: each value of the VIX is an observation of one day, released a day or more after it. Between
two observations released one after the other the log change of the VIX is set beside the log
return of the asset over the same time, from one day's observation (21:00 UTC) to the other's, and
not beside the asset's return at the time of the release, which the VIX of days ago says little of.
Long when their correlation over 30 days is below -0.6 (the asset moves with risk appetite), short
when it is above 0.6; it changes with each release. The 7, 14, 21 and 30 days count as the 5, 10,
15 and 21 trading days that they hold. The state is left when the correlation has come back inside
`exit_threshold`, `hold_bars` after the last bar beyond the threshold, or with a close at or beyond
the stop or the target, which lie 5% and 10% from the close at which the state was entered. A state
that lasts into a new UTC month is entered anew with its first bar. Confidence is the strength of
the 30-day correlation, full only when the correlations over 7, 14 and 21 days have the same sign.
Size is that of entry: 2% of equity at the threshold, up to 5% the stronger the correlation is; a
VIX above 20 takes from what exceeds the 2%, in proportion.

Source: crypto assets have moved with equity risk appetite since 2020 (Iyer, "Cryptic Connections",
IMF Global Financial Stability Notes 2022/01); thresholds and sizes are this project's own.

Failure modes: 21 pairs of returns are few, and a correlation of 0.6 among them is often chance,
over 7 days nearly always; a single crash dominates the window until it leaves it; the asset trades
on days that the VIX does not know, and a weekend weighs as much as a day; the correlation says
nothing of the next return's sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from signals.indicators import at_rows, by_column, held, rolling_correlation, run_starts, until_hit
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

TRADING_DAYS = {7: 5, 14: 10, 21: 15, 30: 21}
LONGEST = 30
HOUR_MS = 3_600_000
OBSERVED_AT_HOUR = 21  # UTC: the VIX's day ends at 15:15 in Chicago, at 20:15 or 21:15 UTC
HISTORY_BARS = 40 * 24  # 21 trading days among holidays, and the longest way to a release
CALM_VIX = 20.0
SMALLEST_VIX = 1e-12


@dataclass(frozen=True, kw_only=True)
class VixCorrelation(Strategy):
    """The rule of this module with its parameters."""

    name: ClassVar[str] = "vix_correlation"
    timeframe: ClassVar[str] = "1h"
    macro_series: ClassVar[tuple[str, ...]] = ("VIXCLS",)

    entry_threshold: float = parameter(
        low=0.05, high=0.95, unit="correlation", text="entered beyond, in absolute value"
    )
    exit_threshold: float = parameter(
        low=0.0, high=0.95, unit="correlation", text="left within, in absolute value"
    )
    hold_bars: int = parameter(
        low=1, high=96, unit="bars", text="kept at most, after the last entry bar"
    )
    base_size: float = parameter(
        low=0.001, high=0.1, unit="fraction of equity", text="size at the threshold"
    )
    max_size: float = parameter(
        low=0.001, high=0.2, unit="fraction of equity", text="size at full strength"
    )
    stop_distance: float = parameter(low=0.002, high=0.5, unit="fraction", text="stop")
    target_distance: float = parameter(low=0.002, high=0.9, unit="fraction", text="target")

    @property
    def lookback(self) -> int:
        """The releases of 30 days with the days that they are of, and the longest state before
        which no entry was seen."""
        return HISTORY_BARS + self.hold_bars

    def analyze(self, market: Market) -> Analysis:
        """The wanted state at every bar."""
        close, vix = by_column(market.close), market.macro["VIXCLS"]
        by_days = _correlations(market)
        correlation = by_days[LONGEST]
        raw = self._state(correlation)
        began = run_starts(raw, renewed=_month_begins(market.open_time))
        entered_at = at_rows(close, began)
        stop = entered_at * (1.0 - raw * self.stop_distance)
        target = entered_at * (1.0 + raw * self.target_distance)
        return Analysis(
            direction=until_hit(raw, began, close, stop, target),
            confidence=_confidence(by_days),
            stop_loss=stop,
            take_profit=target,
            position_size=at_rows(self._size(correlation, vix), began),
            diagnostics={f"correlation_{days}d": found for days, found in by_days.items()}
            | {"vix": vix[:, np.newaxis] * np.ones_like(close)},
        )

    def _state(self, correlation: FloatArray) -> DirectionArray:
        beyond = self.entry_threshold
        within = min(self.exit_threshold, beyond)
        long = held(correlation < -beyond, correlation > -within, self.hold_bars)
        short = held(correlation > beyond, correlation < within, self.hold_bars)
        return long.astype(np.int8) - short.astype(np.int8)

    def _size(self, correlation: FloatArray, vix: FloatArray) -> FloatArray:
        excess = (np.abs(correlation) - self.entry_threshold) / (1.0 - self.entry_threshold)
        calm = CALM_VIX / np.maximum(vix, CALM_VIX)
        reach = max(self.max_size - self.base_size, 0.0)
        return np.asarray(self.base_size + reach * np.clip(excess, 0.0, 1.0) * calm[:, np.newaxis])


def _correlations(market: Market) -> dict[int, FloatArray]:
    """By days: the correlation known at each bar (B, K), 0 until there are returns enough."""
    day = market.macro_day["VIXCLS"]
    released = np.flatnonzero(np.diff(day)) + 1
    rows = _observation_rows(market.open_time, day, released)
    inside = rows >= 0  # days before the history have no price; they come first
    released, rows = released[inside], np.minimum(rows[inside], released[inside])
    vix = np.log(np.maximum(market.macro["VIXCLS"][released], SMALLEST_VIX))
    moves, returns = np.diff(vix), np.diff(np.log(market.close[rows]), axis=0)
    newest = np.searchsorted(released[1:], np.arange(len(day)), side="right")
    found: dict[int, FloatArray] = {}
    for days, window in TRADING_DAYS.items():
        known = np.zeros((len(returns) + 1, market.close.shape[1]))
        if len(returns):
            known[1:] = rolling_correlation(returns, moves, window)
        found[days] = by_column(known[newest])
    return found


def _observation_rows(open_time: IntArray, day: IntArray, released: IntArray) -> IntArray:
    """The rows that close when the VIX of the days released at some rows was observed; negative
    before the history."""
    observed_ms = (day[released] * 24 + OBSERVED_AT_HOUR) * HOUR_MS
    return np.asarray((observed_ms - open_time[0]) // HOUR_MS - 1, dtype=np.int64)


def _confidence(by_days: Mapping[int, FloatArray]) -> FloatArray:
    """|30-day correlation|, scaled by one half to one with the share of windows that agree."""
    longest = by_days[LONGEST]
    agreeing = sum(
        (np.sign(found) == np.sign(longest)).astype(np.float64) for found in by_days.values()
    )
    return np.asarray(np.abs(longest) * (0.5 + 0.5 * agreeing / len(by_days)))


def _month_begins(open_time: IntArray) -> BoolArray:
    """Where a bar is the first that opens in its UTC month, of those given."""
    month = open_time.astype("datetime64[ms]").astype("datetime64[M]")
    begins = np.zeros(len(month), dtype=np.bool_)
    begins[1:] = month[1:] != month[:-1]
    return begins
