"""What a strategy is: from aligned history to the wanted state at every bar. Pure.

A strategy turns a `Market` (aligned arrays) into an `Analysis` (the wanted state at every bar), and
knows nothing of when and for whom it runs: `signals.driver` decides where history starts, live and
in backtests alike, and handles what is missing in it.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from collectors.marketdata import duration, from_ms

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
DirectionArray = NDArray[np.int8]
SourceArray = NDArray[np.int8]

EXPIRY_BARS = 2


class StrategyError(Exception):
    """A strategy cannot be run as asked.

    StrategyError
      +- MarketError      the history given is no grid of bars, begins too late, or lacks an
      |                   instrument that the rule cannot do without: load more
      +- AnalysisError    the strategy returned what no analysis may be: a fault of its code
    """


class MarketError(StrategyError):
    """The history does not fit: bars off the grid, a start after the pinned one, or no such
    instrument; the text says which."""


class AnalysisError(StrategyError):
    """The strategy returned wrong shapes or impossible values; the text names the first bar."""


@dataclass(frozen=True, kw_only=True)
class Market:
    """Aligned history: B closed bars, oldest first, by K instruments.

    A hole carries the last close with zero volume and `valid` false; bars before an instrument's
    first candle carry its first open and are invalid too, so NaN never occurs. `macro` holds, for
    each series, the value known at each bar's close (forward-filled from its release), and
    `macro_known` says where a value had been released, and not too long ago to be believed;
    `macro_day` which day the value is of, counted from 1970-01-01: days before its release.

    `volume` is the bar's own traded volume in base units, where `volume_source` is not 0: the code
    of the source that measured it. Volumes are comparable only where that code is the same.
    """

    timeframe: str
    instruments: tuple[str, ...]
    open_time: IntArray  # (B,) epoch milliseconds
    open: FloatArray  # (B, K)
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    volume_source: SourceArray
    valid: BoolArray
    macro: Mapping[str, FloatArray] = field(default_factory=dict)  # each (B,)
    macro_known: Mapping[str, BoolArray] = field(default_factory=dict)
    macro_day: Mapping[str, IntArray] = field(default_factory=dict)

    def column(self, coin_id: str) -> int:
        """The column of an instrument. Raises MarketError when the market does not have it."""
        if coin_id not in self.instruments:
            raise MarketError(f"{coin_id} is not among the instruments")
        return self.instruments.index(coin_id)

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
            volume_source=self.volume_source[cut],
            valid=self.valid[cut],
            macro={name: values[cut] for name, values in self.macro.items()},
            macro_known={name: known[cut] for name, known in self.macro_known.items()},
            macro_day={name: days[cut] for name, days in self.macro_day.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The wanted state at every bar, aligned with the market (B x K).

    `direction` is -1, 0 or 1 (int8); `confidence` lies in [0, 1] and is 0 where flat; `stop_loss`
    and `take_profit` are prices, NaN where there is none; `position_size` is the proposed fraction
    of equity. `diagnostics` are named (B x K) arrays for people.
    """

    direction: DirectionArray
    confidence: FloatArray
    stop_loss: FloatArray
    take_profit: FloatArray
    position_size: FloatArray
    diagnostics: Mapping[str, FloatArray] = field(default_factory=dict)

    def rows(self, start: int, stop: int) -> Analysis:
        """The bars [start, stop) as an analysis of their own."""
        cut = slice(start, stop)
        return Analysis(
            direction=self.direction[cut],
            confidence=self.confidence[cut],
            stop_loss=self.stop_loss[cut],
            take_profit=self.take_profit[cut],
            position_size=self.position_size[cut],
            diagnostics={name: values[cut] for name, values in self.diagnostics.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The wanted state of one instrument at one closed bar.

    `price` is the bar's close and `closed_at` its close time (market time); stop, take-profit and
    size (a fraction of equity) are None where there is none, always so when flat.
    """

    strategy: str
    coin_id: str
    timeframe: str
    open_time: datetime
    direction: int
    confidence: float
    price: float
    stop_loss: float | None
    take_profit: float | None
    position_size: float | None
    reasons: Mapping[str, Any]

    @property
    def closed_at(self) -> datetime:
        """The bar's close time: the forecast exists from then on."""
        return self.open_time + duration(self.timeframe)

    @property
    def expires_at(self) -> datetime:
        """When the forecast is too old to act on: two bars after the close."""
        return self.closed_at + EXPIRY_BARS * duration(self.timeframe)


class Strategy(ABC):
    """One rule. Carries no state between calls.

    A strategy is a frozen dataclass (`kw_only`) whose fields are its parameters, each declared with
    `signals.parameters.parameter`; name, timeframe and the macro series it reads belong to the
    class, and whether it `compares`: what it says of an instrument depends on others. It may count
    on closed bars only, on finite prices above 0, and on nothing after the row that it computes.
    """

    name: ClassVar[str]
    timeframe: ClassVar[str]
    macro_series: ClassVar[tuple[str, ...]] = ()
    compares: ClassVar[bool] = False

    @property
    @abstractmethod
    def lookback(self) -> int:
        """Bars before a row that the row depends on."""

    @abstractmethod
    def analyze(self, market: Market) -> Analysis:
        """The wanted state at every bar of a market, each row from its own and earlier bars only.

        Raises MarketError when the market lacks an instrument that the rule cannot do without.
        """

    def generate_signals(self, market: Market, analysis: Analysis) -> list[Forecast]:
        """What the analysis of this market says at its last closed bar, of each instrument."""
        last = len(market.open_time) - 1
        return [
            forecast_at(
                strategy=self.name, market=market, analysis=analysis, row=last, column=column
            )
            for column in range(len(market.instruments))
        ]

    def get_parameters(self) -> Mapping[str, Any]:
        """The parameters in force, by name."""
        if not dataclasses.is_dataclass(self):
            return {}
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}


def forecast_at(
    *,
    strategy: str,
    market: Market,
    analysis: Analysis,
    row: int,
    column: int,
    reasons: Mapping[str, Any] | None = None,
) -> Forecast:
    """One cell of an analysis; `reasons` default to its diagnostics."""
    direction = int(analysis.direction[row, column])
    return Forecast(
        strategy=strategy,
        coin_id=market.instruments[column],
        timeframe=market.timeframe,
        open_time=from_ms(int(market.open_time[row])),
        direction=direction,
        confidence=float(analysis.confidence[row, column]),
        price=float(market.close[row, column]),
        stop_loss=finite_or_none(analysis.stop_loss[row, column]),
        take_profit=finite_or_none(analysis.take_profit[row, column]),
        position_size=float(analysis.position_size[row, column]) if direction else None,
        reasons=_diagnostics(analysis, row, column) if reasons is None else reasons,
    )


def _diagnostics(analysis: Analysis, row: int, column: int) -> dict[str, float | None]:
    return {
        name: finite_or_none(values[row, column]) for name, values in analysis.diagnostics.items()
    }


def finite_or_none(value: float) -> float | None:
    """A number as JSON can say it."""
    number = float(value)
    return number if math.isfinite(number) else None
