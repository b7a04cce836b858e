"""What a strategy is and how it is computed over history, once and causally. Pure.

A strategy turns a `Market` (aligned arrays) into an `Analysis` (the wanted state at every bar).
`run_pinned` is the only driver: it decides where history starts, live and in backtests alike,
so that a row is computed from the same bytes in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Market:
    """Aligned history: B closed bars, oldest first, by K instruments.

    A hole carries the last close with zero volume and `valid` false; bars before an instrument's
    first candle carry its first open and are invalid too, so NaN never occurs. `macro` holds, for
    each series, the value known at each bar's close (forward-filled from its release), and
    `macro_known` says where a value had been released at all.
    """

    timeframe: str
    instruments: tuple[str, ...]
    open_time: IntArray  # (B,) epoch milliseconds
    open: FloatArray  # (B, K)
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    valid: BoolArray
    macro: Mapping[str, FloatArray] = field(default_factory=dict)  # each (B,)
    macro_known: Mapping[str, BoolArray] = field(default_factory=dict)

    def rows(self, start: int, stop: int) -> Market:
        """The bars [start, stop) as a market of their own."""
        cut = slice(start, stop)
        return Market(
            timeframe=self.timeframe,
            instruments=self.instruments,
            open_time=self.open_time[cut],
            open=self.open[cut],
            high=self.high[cut],
            low=self.low[cut],
            close=self.close[cut],
            volume=self.volume[cut],
            valid=self.valid[cut],
            macro={name: values[cut] for name, values in self.macro.items()},
            macro_known={name: known[cut] for name, known in self.macro_known.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The wanted state at every bar, aligned with the market (B x K).

    `direction` is -1, 0 or 1 (int8); `confidence` lies in [0, 1] and is 0 where flat; `stop_loss`
    and `take_profit` are prices, NaN where there is none; `position_size` is the proposed fraction
    of equity. `diagnostics` are named (B x K) arrays for people.
    """

    direction: NDArray[np.int8]
    confidence: FloatArray
    stop_loss: FloatArray
    take_profit: FloatArray
    position_size: FloatArray
    diagnostics: Mapping[str, FloatArray] = field(default_factory=dict)


class Strategy(Protocol):
    """One rule. Carries no state; its parameters are a frozen dataclass with declared ranges."""

    name: ClassVar[str]
    timeframe: ClassVar[str]
    macro_series: ClassVar[tuple[str, ...]]

    @property
    def lookback(self) -> int:
        """Bars of history that a row depends on."""

    def analyze(self, market: Market) -> Analysis:
        """The wanted state at every bar, each row from its own and earlier bars only."""

    def get_parameters(self) -> Mapping[str, Any]:
        """The parameters in force, by name."""
