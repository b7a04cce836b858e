"""Mean reversion: buy what fell hard while fear is high. Pure.

Rule: long after a bar at which the VIX (as released by then) was above 25, the close was more
than 10% below its 14-day high, and RSI(14) of the closes was below 30. The state is kept for at
most `hold_bars` after the last such bar and left when RSI has recovered to `rsi_exit`. Confidence
is the percentile of the VIX within the last 30 days; the size is fixed, the stop lies 5% and the
target 10% from the close at which the state was entered.

Source: short-term reversal of prices (Jegadeesh, Journal of Finance 1990) is strongest when the
VIX is high (Nagel, "Evaporating Liquidity", Review of Financial Studies 2012).

Failure modes: a fall that goes on (the state is entered again after each new oversold bar until
the stop ends it); the VIX stands still on weekends and holidays, so the filter may be three days
old; RSI of hourly closes says little when a venue hardly trades.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from signals.indicators import at_run_start, drawdown, held, percentile_rank, rsi
from signals.parameters import parameter
from signals.strategy import Analysis, Market, Strategy

HIGH_BARS = 14 * 24
PERCENTILE_BARS = 30 * 24


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
    rsi_period: int = parameter(low=2, high=100, unit="bars", text="Wilder's period")
    rsi_oversold: float = parameter(low=1.0, high=50.0, unit="RSI", text="entry below")
    rsi_exit: float = parameter(low=30.0, high=99.0, unit="RSI", text="left at or above")
    hold_bars: int = parameter(
        low=1, high=48, unit="bars", text="kept at most, after the last oversold bar"
    )
    position_size: float = parameter(
        low=0.001, high=0.1, unit="fraction of equity", text="proposed size"
    )
    stop_distance: float = parameter(low=0.002, high=0.5, unit="fraction", text="stop")
    target_distance: float = parameter(low=0.002, high=2.0, unit="fraction", text="target")

    @property
    def lookback(self) -> int:
        """30 days for the VIX percentile, and the longest state before it."""
        return PERCENTILE_BARS + 2 * 48

    def analyze(self, market: Market) -> Analysis:
        """The wanted state at every bar."""
        vix = market.macro["VIXCLS"]
        fall = drawdown(market.close, market.high, HIGH_BARS)
        strength = rsi(market.close, self.rsi_period)
        fear = (vix > self.vix_threshold)[:, np.newaxis]
        entry = fear & (fall > self.drawdown_threshold) & (strength < self.rsi_oversold)
        direction = held(entry, strength >= self.rsi_exit, self.hold_bars).astype(np.int8)
        entered_at = at_run_start(direction, market.close)
        percentile = percentile_rank(vix, PERCENTILE_BARS)
        spread = np.ones_like(market.close)
        return Analysis(
            direction=direction,
            confidence=percentile[:, np.newaxis] * spread,
            stop_loss=entered_at * (1.0 - self.stop_distance),
            take_profit=entered_at * (1.0 + self.target_distance),
            position_size=self.position_size * spread,
            diagnostics={"rsi": strength, "drawdown": fall, "vix": vix[:, np.newaxis] * spread},
        )
