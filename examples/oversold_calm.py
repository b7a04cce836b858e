"""Buys what has fallen too fast while the stock market is calm. A strategy file to begin with.

Copy it into the folder that MTS_STRATEGY_DIR names; docs/strategy-files.md says what happens then.
It fails where a fall has a reason that the VIX does not know: a coin that is worth less, for good.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from signals.indicators import atr, rsi
from signals.parameters import parameter
from signals.strategy import Analysis, Market, Strategy


@dataclass(frozen=True, kw_only=True)
class OversoldCalm(Strategy):
    """Long while the RSI is low and the VIX below its limit; stop and target by the range."""

    name = "oversold_calm"  # the file's name
    timeframe = "1h"
    macro_series = ("VIXCLS",)

    period: int = parameter(default=14, low=2, high=100, unit="bars", text="of RSI and range")
    oversold: float = parameter(default=25.0, low=1, high=50, unit="RSI", text="bought below")
    calm: float = parameter(default=22.0, low=9, high=80, unit="index points", text="VIX at most")
    stop_ranges: float = parameter(default=3.0, low=0.5, high=10, unit="ranges", text="to the stop")
    size: float = parameter(
        default=0.02, low=0.001, high=0.1, unit="fraction of equity", text="of a position"
    )

    @property
    def lookback(self) -> int:
        """Wilder's averages forget slowly: after ten periods nothing of their start is left."""
        return 10 * self.period

    def analyze(self, market: Market) -> Analysis:
        """Row t from rows up to t; arrays are bars x instruments."""
        strength = rsi(market.close, self.period)
        reach = atr(market.high, market.low, market.close, self.period)
        is_calm = market.macro["VIXCLS"][:, np.newaxis] <= self.calm
        wanted = (strength < self.oversold) & is_calm
        depth = np.clip((self.oversold - strength) / self.oversold, 0.0, 1.0)
        stop = market.close - self.stop_ranges * reach
        return Analysis(
            direction=wanted.astype(np.int8),
            confidence=np.where(wanted, 0.5 + 0.5 * depth, 0.0),
            stop_loss=np.where(stop > 0.0, stop, np.nan),
            take_profit=market.close + 2.0 * self.stop_ranges * reach,
            position_size=np.full_like(market.close, self.size),
            diagnostics={"rsi": strength, "range": reach},
        )
