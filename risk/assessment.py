"""The verdict on a request to open a position: sizing and limits in one order. Pure; compiles.

`decide` is the only place where a position is granted. Paper trading, a person's order, the
assessment endpoint and the backtest all call it with scalars and get the same bits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from risk.limits import (
    APPROVED,
    CONFIDENCE,
    HALTED,
    INVALID_REQUEST,
    MIN_NOTIONAL,
    REASONS,
    REDUCING,
    ROUNDING_SLACK,
    STATE_HALTED,
    STATE_REDUCING,
    STOP_DISTANCE,
    STOP_PASSED,
    TARGET_PASSED,
    Limits,
    Usage,
    breached_limit,
    projected_usage,
)
from risk.portfolio import Standing
from risk.sizing import BLENDED, Sizes, position_sizes, stop_price, target_price, whole_steps

ABSURD_PRICE = 1e12  # quote units; no instrument trades near it
LEVELS = (("low", 0.08), ("medium", 0.12), ("high", 0.18))


class Request(NamedTuple):
    """What is asked for. NaN stands for "none" in `stop_loss`, `take_profit`, `proposed_size`.

    `proposed_size` is a fraction of equity and an upper bound: 0.0, too, means that none is given.
    `price` is the expected fill; `step_notional` the quote value of one quantity step at it (0.0
    when the venue's grid is unknown, then nothing is floored); `min_notional` the venue's minimum.
    """

    direction: int
    confidence: float
    price: float
    stop_loss: float
    take_profit: float
    proposed_size: float
    step_notional: float
    min_notional: float


class Verdict(NamedTuple):
    """The answer. `code` is 0 when approved, else a code of `risk.limits.REASONS`.

    `size` (quote units) and `steps` are what is granted, 0 when refused; `wanted` is the size that
    was judged, and `risk` what it loses at its stop. `sizes` says how it came about.
    """

    code: int
    steps: int
    size: float
    wanted: float
    stop_loss: float
    take_profit: float
    risk: float
    score: float
    usage: Usage
    sizes: Sizes

    @property
    def is_approved(self) -> bool:
        """True when the position is granted."""
        return self.code == APPROVED

    @property
    def reason(self) -> str:
        """The refusal's code as text, empty when approved."""
        return REASONS[self.code]

    @property
    def level(self) -> str:
        """low, medium, high or critical, by the composite score."""
        return risk_level(self.score)


def is_valid_request(request: Request, standing: Standing) -> bool:
    """False for NaN, infinite, negative or absurd numbers and for a portfolio without equity."""
    return (
        (request.direction == 1 or request.direction == -1)
        and 0.0 <= request.confidence <= 1.0
        and 0.0 < request.price < ABSURD_PRICE
        and (math.isnan(request.stop_loss) or 0.0 < request.stop_loss < ABSURD_PRICE)
        and (math.isnan(request.take_profit) or 0.0 < request.take_profit < ABSURD_PRICE)
        and (math.isnan(request.proposed_size) or 0.0 <= request.proposed_size <= 1.0)
        and 0.0 <= request.step_notional < ABSURD_PRICE
        and 0.0 <= request.min_notional < ABSURD_PRICE
        and 0.0 < standing.equity < math.inf
        and 0.0 <= standing.gross_exposure < math.inf
        and 0.0 <= standing.instrument_exposure < math.inf
        and 0.0 <= standing.sector_exposure < math.inf
        and 0.0 <= standing.open_risk < math.inf
        and not standing.volatility_24h < 0.0
        and not standing.daily_volatility < 0.0
        and not standing.quote_volume_24h < 0.0
        and not abs(standing.correlation) > 1.0
        and 0 <= standing.wins <= standing.trades
        and 0.0 <= standing.won < math.inf
        and 0.0 <= standing.lost < math.inf
    )


def composite_score(size: float, heat: float, position_risk: float) -> float:
    """0.4 min(size / 10,000, 1) + 0.3 min(heat, 1) + 0.3 min(position risk, 1).

    `size` in quote units; `heat` and `position_risk` (the loss at the stop) as fractions of equity.
    """
    return 0.4 * min(size / 10_000.0, 1.0) + 0.3 * min(heat, 1.0) + 0.3 * min(position_risk, 1.0)


def refusal_before_size(request: Request, limits: Limits, stop: float, target: float) -> int:
    """The code of what refuses a valid request whatever its size, or APPROVED."""
    if limits.trading_state == STATE_HALTED:
        return HALTED
    if limits.trading_state == STATE_REDUCING:
        return REDUCING
    if request.confidence < limits.min_confidence:
        return CONFIDENCE
    # A price beyond the stop or the target means that the move is over: the trade would leave at
    # once.
    if request.direction * (request.price - stop) <= 0.0:
        return STOP_PASSED
    if request.direction * (target - request.price) <= 0.0:
        return TARGET_PASSED
    # Not moved nearer: that would be another trade than the strategy was tested with.
    distance = abs(request.price - stop) / request.price
    if distance > limits.max_stop_distance * ROUNDING_SLACK:
        return STOP_DISTANCE
    return APPROVED


def decide(request: Request, standing: Standing, limits: Limits) -> Verdict:
    """Size the request, place stop and target, and check every limit on the projected values."""
    if not is_valid_request(request, standing):
        return no_verdict(INVALID_REQUEST)
    stop = stop_price(request.direction, request.price, request.stop_loss, limits.default_stop)
    target = target_price(
        request.direction, request.price, stop, request.take_profit, limits.reward_risk_ratio
    )
    sizes = position_sizes(standing, limits, request.confidence, request.proposed_size)
    wanted = sizes.granted
    steps = 0
    if request.step_notional > 0.0:
        steps = whole_steps(wanted, request.step_notional)
        wanted = steps * request.step_notional
    risk = wanted * abs(request.price - stop) / request.price
    usage = projected_usage(standing, wanted, risk)
    score = composite_score(wanted, usage.leverage, risk / standing.equity)
    code = refusal_before_size(request, limits, stop, target)
    if code == APPROVED and wanted < max(request.min_notional, limits.min_notional):
        code = MIN_NOTIONAL
    if code == APPROVED:
        code = breached_limit(usage, limits)
    size = wanted
    if code != APPROVED:
        steps = 0
        size = 0.0
    return Verdict(code, steps, size, wanted, stop, target, risk, score, usage, sizes)


def no_verdict(code: int) -> Verdict:
    """A refusal of what was never judged: nothing is granted, and nothing of it is known."""
    none = math.nan
    usage = Usage(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, none, none, none)
    sizes = Sizes(none, none, none, none, none, none, 0.0, BLENDED)
    return Verdict(code, 0, 0.0, 0.0, none, none, 0.0, 0.0, usage, sizes)


def risk_level(score: float) -> str:
    """The level of a composite score: low to 0.08, medium to 0.12, high to 0.18, then critical."""
    for name, bound in LEVELS:
        if score <= bound:
            return name
    return "critical"
