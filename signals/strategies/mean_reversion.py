"""Mean reversion: buy what fell hard while fear is high. Pure.

Rule: long after a bar at which the VIX (as released by then) was above 25, the close was more
than 10% and at most 15% below its 14-day high, and RSI(14) of the closes was below 30. Beyond 15%
the rule pauses: nothing is entered, and a state is no longer kept for further oversold bars. One
that is open is not closed by the pause: of those entered at 10% the stop is near by then, and it
decides. The state is left when RSI has recovered to `rsi_exit`, `hold_bars` after the last bar
that would enter, or with a close at or beyond the stop or the target, which lie 5% and 10% from
the close at which the state was entered; after that nothing is entered before `hold_bars` without
such a bar, or a recovery of RSI. Confidence is the percentile of the VIX among those known at the
same hour of the last 30 days; the size is fixed, 2.5% of equity.

Source: short-term reversal of prices (Jegadeesh, Journal of Finance 1990) is strongest when the
VIX is high (Nagel, "Evaporating Liquidity", Review of Financial Studies 2012).

Failure modes: a fall that goes on to just short of the pause costs the stop, and a crash that
passes from 10% to 15% within an hour is not bought at all; the VIX stands still on weekends and
holidays, so the filter may be days old; RSI of hourly closes says little when a venue hardly
trades.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from signals.indicators import (
    at_rows,
    by_column,
    drawdown,
    held,
    percentile_rank,
    rsi,
    run_starts,
    until_hit,
)
from signals.parameters import parameter
from signals.strategy import Analysis, Market, Strategy

DAY = 24
HIGH_BARS = 14 * DAY
PERCENTILE_BARS = 30 * DAY
LONGEST_HOLD = 48


@dataclass(frozen=True, kw_only=True)
class MeanReversion(Strategy):
    """The rule of this module with its parameters."""

    name: ClassVar[str] = "mean_reversion"
    timeframe: ClassVar[str] = "1h"
    macro_series: ClassVar[tuple[str, ...]] = ("VIXCLS",)

    vix_threshold: float = parameter(
        low=5.0, high=100.0, unit="index points", text="the VIX must be above"
    )
    drawdown_threshold: float = parameter(
        low=0.01, high=0.9, unit="fraction", text="fall from the 14-day high"
    )
    pause_threshold: float = parameter(
        low=0.01, high=0.95, unit="fraction", text="fall beyond which nothing is entered"
    )
    rsi_period: int = parameter(low=2, high=100, unit="bars", text="Wilder's period")
    rsi_oversold: float = parameter(low=1.0, high=50.0, unit="RSI", text="entry below")
    rsi_exit: float = parameter(low=30.0, high=99.0, unit="RSI", text="left at or above")
    hold_bars: int = parameter(
        low=1, high=LONGEST_HOLD, unit="bars", text="kept at most, after the last entry bar"
    )
    position_size: float = parameter(
        low=0.001, high=0.1, unit="fraction of equity", text="proposed size"
    )
    stop_distance: float = parameter(low=0.002, high=0.5, unit="fraction", text="stop")
    target_distance: float = parameter(low=0.002, high=2.0, unit="fraction", text="target")

    @property
    def lookback(self) -> int:
        """30 days for the VIX percentile, and the longest state before it."""
        return PERCENTILE_BARS + 2 * LONGEST_HOLD

    def analyze(self, market: Market) -> Analysis:
        """The wanted state at every bar."""
        close, vix = by_column(market.close), market.macro["VIXCLS"]
        fall = drawdown(close, by_column(market.high), HIGH_BARS)
        strength = rsi(close, self.rsi_period)
        fear = (vix > self.vix_threshold)[:, np.newaxis]
        fallen = (fall > self.drawdown_threshold) & (fall <= self.pause_threshold)
        entry = fear & fallen & (strength < self.rsi_oversold)
        raw = held(entry, strength >= self.rsi_exit, self.hold_bars).astype(np.int8)
        began = run_starts(raw)
        entered_at = at_rows(close, began)
        stop = entered_at * (1.0 - self.stop_distance)
        target = entered_at * (1.0 + self.target_distance)
        percentile = percentile_rank(vix, PERCENTILE_BARS, every=DAY)
        spread = np.ones_like(close)
        return Analysis(
            direction=until_hit(raw, began, close, stop, target),
            confidence=percentile[:, np.newaxis] * spread,
            stop_loss=stop,
            take_profit=target,
            position_size=self.position_size * spread,
            diagnostics={"rsi": strength, "drawdown": fall, "vix": vix[:, np.newaxis] * spread},
        )
