"""What each limit is: its default, the bounds of a change, its unit, which side it bounds. Pure.

The one table that rows, forms, HTTP answers and warnings are made from. A profile without a row of
some limit has its default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from risk.limits import STATE_ACTIVE, Limits, Usage

CEILING, FLOOR, SETTING = "ceiling", "floor", "setting"
EQUITY = "fraction of equity"
LEVERAGE = "multiple of equity"
COUNT = "count"
WARNING_SHARE = 0.8  # a limit used to this share is warned of


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """One limit. `low` and `high` are inclusive bounds of what an operator may set.

    `side` is a ceiling or a floor for what is compared with a projected value (`usage`, a field of
    `risk.limits.Usage`), a setting for what shapes the request. `per_strategy` ones may have a row
    of a strategy's own.
    """

    name: str
    default: float
    low: float
    high: float
    unit: str
    side: str
    text: str
    usage: str = ""
    per_strategy: bool = False

    @property
    def is_whole(self) -> bool:
        """True for counts."""
        return self.unit == COUNT

    def fault(self, value: float) -> str:
        """What is wrong with a value, empty when it may be set."""
        if not math.isfinite(value):
            return "a finite number"
        if not self.low <= value <= self.high:
            return f"from {self.low:.10g} to {self.high:.10g} ({self.unit})"
        if self.is_whole and value != math.floor(value):
            return "a whole number"
        return ""


DECLARATIONS: tuple[Declaration, ...] = (
    Declaration(
        name="max_position_size", default=0.10, low=0.0001, high=1.0, unit=EQUITY, side=CEILING,
        usage="position_size", text="one order's notional; also the cap of every sizing method",
    ),
    Declaration(
        name="max_single_asset", default=0.15, low=0.0001, high=1.0, unit=EQUITY, side=CEILING,
        usage="single_asset", text="held and wanted in one instrument together",
    ),
    Declaration(
        name="max_sector", default=0.30, low=0.0001, high=10.0, unit=EQUITY, side=CEILING,
        usage="sector", text="gross exposure of one sector: its coins fall together",
    ),
    Declaration(
        name="max_portfolio_risk", default=0.25, low=0.0001, high=1.0, unit=EQUITY, side=CEILING,
        usage="portfolio_risk", text="lost if everything held and wanted left at its stop",
    ),
    Declaration(
        name="max_drawdown", default=0.20, low=0.005, high=0.9,
        unit="fraction of the high-water mark", side=CEILING, usage="drawdown",
        text="the fall from the high-water mark after the loss at the stop",
    ),
    Declaration(
        name="drawdown_warning", default=0.15, low=0.001, high=0.9,
        unit="fraction of the high-water mark", side=SETTING,
        text="the drawdown that is warned of; the others are from 80% of their limit",
    ),
    Declaration(
        name="max_daily_loss", default=0.05, low=0.001, high=0.9,
        unit="fraction of equity at the UTC day's start", side=CEILING, usage="daily_loss",
        text="the day's loss after the loss at the stop",
    ),
    Declaration(
        name="max_leverage", default=1.0, low=0.05, high=10.0, unit=LEVERAGE,
        side=CEILING, usage="leverage",
        text="buying power: gross exposure with this position, the heat",
    ),
    Declaration(
        name="max_open_positions", default=10, low=1, high=1000, unit=COUNT, side=CEILING,
        usage="open_positions", text="instruments held at once, this one included",
    ),
    Declaration(
        name="max_correlation", default=0.80, low=0.0, high=1.0, unit="correlation", side=CEILING,
        usage="correlation",
        text="highest of 30 daily closes with another held instrument, signed by both directions;"
        " unknown (fewer than 20 days) warns",
    ),
    Declaration(
        name="max_volatility", default=0.20, low=0.01, high=5.0,
        unit="standard deviation of the return over 24 hours", side=CEILING, usage="volatility",
        # Share of hours over the bound, hourly spot candles 2021-04 to 2022-06, crash of May 2021
        # included, at 0.20 (and at 0.15): BTC 0.0% (0.2), ETH 0.2% (0.8), BNB 0.3% (1.5), XRP 0.5%
        # (1.6), OCEAN 1.3% (3.0), SOL 1.5% (4.3), FET 2.0% (5.6), RNDR 4.0% (11.5).
        text="of the last 24 hourly returns. A calm coin has 0.03, a wild one 0.08 on a usual day:"
        " a fifth is met on crash days only, when a stop fills far from its price; at 0.15 the"
        " small coins would be barred every tenth hour. Unknown (under 12 hours) refuses",
    ),
    Declaration(
        name="min_liquidity", default=1_000_000.0, low=0.0, high=1e12,
        unit="quote units traded in 24 hours", side=FLOOR, usage="liquidity",
        text="what is thinly traded cannot be left at its price. Hours without a true volume count"
        " as nothing; unknown (under 12 hours with one) refuses",
    ),
    Declaration(
        name="max_stop_distance", default=0.50, low=0.001, high=0.95, unit="fraction of the price",
        side=CEILING, usage="", per_strategy=True,
        text="the farthest stop that is granted, for all or for one strategy. A wider one refuses:"
        " moved nearer it would be another strategy than the one that was tested. Our own declare"
        " 0.5 at most; there a position of 10% risks all that a day may lose",
    ),
    Declaration(
        name="min_confidence", default=0.5, low=0.0, high=1.0, unit="confidence", side=SETTING,
        text="a signal less sure is refused",
    ),
    Declaration(
        name="min_notional", default=10.0, low=0.0, high=1e9, unit="quote units", side=SETTING,
        text="the smallest order; the venue's own minimum holds beside it",
    ),
    Declaration(
        name="base_size", default=0.02, low=0.0001, high=1.0, unit=EQUITY, side=SETTING,
        text="fixed percent: the size at full confidence",
    ),
    Declaration(
        name="kelly_fraction", default=0.25, low=0.0, high=1.0, unit="share of full Kelly",
        side=SETTING, text="full Kelly halves an account too often: its inputs are estimates",
    ),
    Declaration(
        name="kelly_min_trades", default=30, low=5, high=100_000, unit=COUNT, side=SETTING,
        text="closed trades of the strategy before its record counts",
    ),
    Declaration(
        name="volatility_target", default=0.05, low=0.001, high=2.0,
        unit="yearly volatility of equity", side=SETTING,
        text="what one position may add: at 60% a year it is 8% of equity, at 120% half of it",
    ),
    Declaration(
        name="default_stop", default=0.02, low=0.001, high=0.5, unit="fraction of entry",
        side=SETTING, text="the stop distance of a request without a stop",
    ),
    Declaration(
        name="reward_risk_ratio", default=2.0, low=0.1, high=100.0, unit="stop distances",
        side=SETTING, text="the target of a request without one",
    ),
)  # fmt: skip
BY_NAME = {declaration.name: declaration for declaration in DECLARATIONS}
LIMIT_NAMES = tuple(BY_NAME)


def limits_from(values: Mapping[str, float], *, trading_state: int = STATE_ACTIVE) -> Limits:
    """The limits with these values and the defaults of all that is not among them."""
    chosen: dict[str, Any] = {}
    for name, declaration in BY_NAME.items():
        value = values.get(name, declaration.default)
        is_count = declaration.is_whole and math.isfinite(value)
        chosen[name] = int(value) if is_count else float(value)
    return Limits(trading_state=trading_state, **chosen)


def declared_faults(limits: Limits) -> str:
    """Which limits lie out of their bounds, and what those are; empty when none does."""
    faults = ((each.name, each.fault(getattr(limits, each.name))) for each in DECLARATIONS)
    return "; ".join(f"{name}: {fault}" for name, fault in faults if fault)


def limit_table(usage: Usage, limits: Limits) -> dict[str, tuple[float, float]]:
    """Each limit's name with its projected value (NaN: unknown) and its bound."""
    return {
        each.name: (float(getattr(usage, each.usage)), float(getattr(limits, each.name)))
        for each in DECLARATIONS
        if each.usage
    }


def utilization(name: str, value: float, bound: float) -> float | None:
    """The share of a limit that is used, 1.0 at the bound; None when unknown.

    Of a floor it is the bound over the value.
    """
    above, below = (bound, value) if BY_NAME[name].side == FLOOR else (value, bound)
    if math.isnan(value):
        return None
    if below == 0.0:
        return 0.0 if above <= 0.0 else None
    return above / below


def limit_warnings(usage: Usage, limits: Limits) -> list[str]:
    """One line for every limit that is used to 80% or more, or that cannot be read."""
    lines = []
    for name, (value, bound) in limit_table(usage, limits).items():
        used = utilization(name, value, bound)
        if math.isnan(value):
            lines.append(f"{name}: unknown")
        elif name == "max_drawdown":
            if value >= min(limits.drawdown_warning, bound):
                lines.append(f"{name}: {value:.4g} of {bound:.4g}")
        elif bound > 0.0 and used is not None and used >= WARNING_SHARE:
            lines.append(f"{name}: {value:.4g} of {bound:.4g}")
    return lines
