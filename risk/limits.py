"""The limits of a profile and which of them a projected portfolio breaks. Pure; compiles.

Every limit is checked on projected values: the portfolio as it is, plus the wanted position, minus
what that position loses if it leaves at its stop. What each limit is, its bounds and its reason are
declared in `risk.declarations`. A new limit is a line there, a field of `Limits`, a code with its
text in `REASONS` and one comparison in `breached_limit`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from risk.portfolio import Standing, loss_fraction

APPROVED = 0
INVALID_REQUEST = 1
HALTED = 2
REDUCING = 3
CONFIDENCE = 4
STOP_PASSED = 5
TARGET_PASSED = 6
MIN_NOTIONAL = 7
POSITION_SIZE = 8
OPEN_POSITIONS = 9
BUYING_POWER = 10
PORTFOLIO_RISK = 11
DRAWDOWN = 12
DAILY_LOSS = 13
STOP_DISTANCE = 14
SINGLE_ASSET = 15
SECTOR = 16
CORRELATION = 17
VOLATILITY = 18
LIQUIDITY = 19
VOLATILITY_UNKNOWN = 20
LIQUIDITY_UNKNOWN = 21
ASSESSMENT_ERROR = 22
ASSESSMENT_TIMEOUT = 23

REASONS: dict[int, str] = {
    APPROVED: "",
    INVALID_REQUEST: "invalid_request",
    HALTED: "trading_halted",
    REDUCING: "trading_reducing",
    CONFIDENCE: "confidence_floor",
    STOP_PASSED: "stop_passed",
    TARGET_PASSED: "target_passed",
    MIN_NOTIONAL: "min_notional",
    POSITION_SIZE: "max_position_size",
    OPEN_POSITIONS: "max_open_positions",
    BUYING_POWER: "buying_power",
    PORTFOLIO_RISK: "max_portfolio_risk",
    DRAWDOWN: "max_drawdown",
    DAILY_LOSS: "max_daily_loss",
    STOP_DISTANCE: "max_stop_distance",
    SINGLE_ASSET: "max_single_asset",
    SECTOR: "max_sector",
    CORRELATION: "max_correlation",
    VOLATILITY: "max_volatility",
    LIQUIDITY: "min_liquidity",
    VOLATILITY_UNKNOWN: "volatility_unknown",
    LIQUIDITY_UNKNOWN: "liquidity_unknown",
    ASSESSMENT_ERROR: "assessment_error",
    ASSESSMENT_TIMEOUT: "assessment_timeout",
}

STATE_ACTIVE = 0
STATE_REDUCING = 1
STATE_HALTED = 2

# A size floored to whole steps may exceed its own cap in the last digit.
ROUNDING_SLACK = 1.0 + 1e-9


class Limits(NamedTuple):
    """A risk profile as scalars; `risk.declarations` says what each means and in which unit."""

    trading_state: int
    max_position_size: float
    max_single_asset: float
    max_sector: float
    max_portfolio_risk: float
    max_drawdown: float
    drawdown_warning: float
    max_daily_loss: float
    max_leverage: float
    max_open_positions: int
    max_correlation: float
    max_volatility: float
    min_liquidity: float
    max_stop_distance: float
    min_confidence: float
    min_notional: float
    base_size: float
    kelly_fraction: float
    kelly_min_trades: int
    volatility_target: float
    default_stop: float
    reward_risk_ratio: float


class Usage(NamedTuple):
    """Projected values, each in the unit of the limit beside it; NaN is unknown.

    Shares of equity, except `drawdown` (of the high-water mark), `daily_loss` (of the equity at the
    day's start), `open_positions` (a count), `correlation` (-1 to 1), `volatility` (a fraction of
    the price in 24 hours) and `liquidity` (quote units traded in 24 hours).
    """

    position_size: float
    single_asset: float
    sector: float
    portfolio_risk: float
    drawdown: float
    daily_loss: float
    leverage: float
    open_positions: int
    correlation: float
    volatility: float
    liquidity: float


def projected_usage(standing: Standing, size: float, risk: float) -> Usage:
    """What the limits would read with `size` more notional of which `risk` may be lost."""
    equity = standing.equity
    opened = 0 if standing.instrument_exposure > 0.0 else 1
    return Usage(
        size / equity,
        (standing.instrument_exposure + size) / equity,
        (standing.sector_exposure + size) / equity,
        (standing.open_risk + risk) / equity,
        loss_fraction(equity - risk, standing.high_water_mark),
        loss_fraction(equity - risk, standing.day_start_equity),
        (standing.gross_exposure + size) / equity,
        standing.open_positions + opened,
        standing.correlation,
        standing.volatility_24h,
        standing.quote_volume_24h,
    )


def breached_limit(usage: Usage, limits: Limits) -> int:
    """The code of the first limit that the projected usage breaks, or APPROVED.

    An unknown volatility or liquidity refuses: what has not traded for a day on record can neither
    be sized nor be trusted to be left. An unknown correlation does not, or a new listing would be
    barred for a month beside anything else; its exposure is bounded by the limits of asset, sector
    and total.
    """
    code = _market_breach(usage, limits)
    if usage.daily_loss > limits.max_daily_loss:
        code = DAILY_LOSS
    if usage.drawdown > limits.max_drawdown:
        code = DRAWDOWN
    if usage.portfolio_risk > limits.max_portfolio_risk * ROUNDING_SLACK:
        code = PORTFOLIO_RISK
    if usage.leverage > limits.max_leverage * ROUNDING_SLACK:
        code = BUYING_POWER
    if usage.open_positions > limits.max_open_positions:
        code = OPEN_POSITIONS
    if usage.sector > limits.max_sector * ROUNDING_SLACK:
        code = SECTOR
    if usage.single_asset > limits.max_single_asset * ROUNDING_SLACK:
        code = SINGLE_ASSET
    if usage.position_size > limits.max_position_size * ROUNDING_SLACK:
        code = POSITION_SIZE
    return code


def _market_breach(usage: Usage, limits: Limits) -> int:
    code = APPROVED
    if usage.correlation > limits.max_correlation:
        code = CORRELATION
    if math.isnan(usage.liquidity):
        code = LIQUIDITY_UNKNOWN
    if usage.liquidity < limits.min_liquidity:
        code = LIQUIDITY
    if math.isnan(usage.volatility):
        code = VOLATILITY_UNKNOWN
    if usage.volatility > limits.max_volatility:
        code = VOLATILITY
    return code
