"""The limits of a profile and which of them a projected portfolio breaks. Pure; compiles.

Every limit is checked on projected values: the portfolio as it is, plus the wanted position, minus
what that position loses if it leaves at its stop. A new limit is one code, one entry in `REASONS`
and one comparison in `breached_limit`.
"""

from __future__ import annotations

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
}

STATE_ACTIVE = 0
STATE_REDUCING = 1
STATE_HALTED = 2

WARNING_SHARE = 0.8  # a limit used to this share is warned of
# A size floored to whole steps may exceed its own cap in the last digit.
ROUNDING_SLACK = 1.0 + 1e-9


class Limits(NamedTuple):
    """A risk profile as scalars. Fractions are of equity; `min_notional` is in quote units."""

    trading_state: int
    max_position_size: float
    max_portfolio_risk: float
    max_drawdown: float
    max_daily_loss: float
    max_leverage: float
    max_open_positions: int
    min_confidence: float
    min_notional: float
    base_size: float
    default_stop: float
    reward_risk_ratio: float


class Usage(NamedTuple):
    """Projected values, each in the unit of the limit beside it (fractions of equity, a count)."""

    position_size: float
    portfolio_risk: float
    drawdown: float
    daily_loss: float
    leverage: float
    open_positions: int


def projected_usage(standing: Standing, size: float, risk: float) -> Usage:
    """What the limits would read with `size` more notional of which `risk` may be lost."""
    equity = standing.equity
    opened = 0 if standing.instrument_exposure > 0.0 else 1
    return Usage(
        (standing.instrument_exposure + size) / equity,
        (standing.open_risk + risk) / equity,
        loss_fraction(equity - risk, standing.high_water_mark),
        loss_fraction(equity - risk, standing.day_start_equity),
        (standing.gross_exposure + size) / equity,
        standing.open_positions + opened,
    )


def breached_limit(usage: Usage, limits: Limits) -> int:
    """The code of the first limit that the projected usage breaks, or APPROVED."""
    code = APPROVED
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
    if usage.position_size > limits.max_position_size * ROUNDING_SLACK:
        code = POSITION_SIZE
    return code


def limit_table(usage: Usage, limits: Limits) -> dict[str, tuple[float, float]]:
    """Each limit's name with its projected value and its bound, for warnings and answers."""
    return {
        "max_position_size": (usage.position_size, limits.max_position_size),
        "max_portfolio_risk": (usage.portfolio_risk, limits.max_portfolio_risk),
        "max_drawdown": (usage.drawdown, limits.max_drawdown),
        "max_daily_loss": (usage.daily_loss, limits.max_daily_loss),
        "max_leverage": (usage.leverage, limits.max_leverage),
        "max_open_positions": (float(usage.open_positions), float(limits.max_open_positions)),
    }


def limit_warnings(usage: Usage, limits: Limits) -> list[str]:
    """One line for every limit that is used to 80% or more."""
    lines = []
    for name, (value, bound) in limit_table(usage, limits).items():
        if bound > 0.0 and value >= WARNING_SHARE * bound:
            lines.append(f"{name}: {value:.4g} of {bound:.4g}")
    return lines
