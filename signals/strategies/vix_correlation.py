"""VIX correlation: trade the link between an asset and the fear of the stock market. Pure.

Rule: take 24-hour log returns of the asset, sampled hourly, and the log change of the VIX known
now against the VIX known 24 hours before. Long when their correlation over 30 days is below -0.6
(the asset moves with risk appetite), short when it is above 0.6. The state is left when the
correlation has come back inside `exit_threshold`, or `hold_bars` after the last bar beyond the
threshold. Confidence is the strength of the 30-day correlation, full only when the correlations
over 7, 14 and 21 days have the same sign. Size is 2% of equity at the threshold, grows with the
strength to at most 5% and shrinks in proportion to a VIX above 20. The stop lies 5% and the
target 10% from the close at which the state was entered.

Source: crypto assets have moved with equity risk appetite since 2020 (Iyer, "Cryptic Connections",
IMF Global Financial Stability Notes 2022/01); thresholds and sizes are this project's own.

Failure modes: overlapping 24-hour returns make neighbouring rows alike, so the correlation has
about 30 independent observations, not 720; the VIX known changes once a business day; a single
crash dominates the window until it leaves it; correlation says nothing of the next return's sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from signals.indicators import at_run_start, held, log_change, rolling_correlation
from signals.parameters import parameter
from signals.strategy import Analysis, DirectionArray, FloatArray, Market, Strategy

DAY = 24
WINDOW_DAYS = (7, 14, 21, 30)
RUN_BARS = 4 * DAY
CALM_VIX = 20.0


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
        low=1, high=RUN_BARS, unit="bars", text="kept at most, after the last entry bar"
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
        """30 days of 24-hour returns, and four days in which a state's first bar is sought."""
        return WINDOW_DAYS[-1] * DAY + DAY + RUN_BARS

    def analyze(self, market: Market) -> Analysis:
        """The wanted state at every bar."""
        vix = market.macro["VIXCLS"]
        returns = log_change(market.close, DAY)
        vix_change = log_change(vix, DAY)
        by_days = {
            days: rolling_correlation(returns, vix_change, days * DAY) for days in WINDOW_DAYS
        }
        correlation = by_days[WINDOW_DAYS[-1]]
        direction = self._direction(correlation)
        entered_at = at_run_start(direction, market.close)
        return Analysis(
            direction=direction,
            confidence=_confidence(by_days),
            stop_loss=entered_at * (1.0 - direction * self.stop_distance),
            take_profit=entered_at * (1.0 + direction * self.target_distance),
            position_size=self._size(correlation, vix),
            diagnostics={f"correlation_{days}d": found for days, found in by_days.items()}
            | {"vix": vix[:, np.newaxis] * np.ones_like(market.close)},
        )

    def _direction(self, correlation: FloatArray) -> DirectionArray:
        beyond = self.entry_threshold
        within = min(self.exit_threshold, beyond)
        long = held(correlation < -beyond, correlation > -within, self.hold_bars)
        short = held(correlation > beyond, correlation < within, self.hold_bars)
        return long.astype(np.int8) - short.astype(np.int8)

    def _size(self, correlation: FloatArray, vix: FloatArray) -> FloatArray:
        excess = (np.abs(correlation) - self.entry_threshold) / (1.0 - self.entry_threshold)
        reach = max(self.max_size - self.base_size, 0.0)
        size = self.base_size + reach * np.clip(excess, 0.0, 1.0)
        calm = np.minimum(CALM_VIX / np.maximum(vix, CALM_VIX), 1.0)
        return np.asarray(size * calm[:, np.newaxis])


def _confidence(by_days: Mapping[int, FloatArray]) -> FloatArray:
    """|30-day correlation|, scaled by one half to one with the share of windows that agree."""
    longest = by_days[WINDOW_DAYS[-1]]
    agreeing = sum(
        (np.sign(found) == np.sign(longest)).astype(np.float64) for found in by_days.values()
    )
    return np.asarray(np.abs(longest) * (0.5 + 0.5 * agreeing / len(by_days)))
