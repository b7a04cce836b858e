"""The assessment of a request that nobody executes yet, in the words of the HTTP contract."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collectors import clock
from collectors.models import Instrument
from risk.assessment import Request, Verdict
from risk.declarations import BY_NAME, EQUITY, LEVERAGE, limit_table, utilization
from risk.limits import Limits
from risk.models import RiskDecision
from risk.portfolio import Portfolio
from risk.selectors import limits_of
from risk.services import assess
from risk.sizing import METHODS
from trading.models import Account
from trading.selectors import account_portfolio
from trading.services.venues import venue_of

DIRECTIONS = {"LONG": 1, "SHORT": -1}
# These are answered as they now are, beside what a limit allows; the others as projected.
ANSWERED_APART = ("max_drawdown", "max_daily_loss")
SHARES = (EQUITY, LEVERAGE)
STATED = (
    "equity", "cash", "gross_exposure", "open_risk", "high_water_mark", "day_start_equity",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AssessmentRequest:
    """What a program asks: may this account enter? Prices in quote units, None for none."""

    asset: str
    signal_type: str
    price: float
    confidence: float
    signal_id: str = ""
    strategy: str = ""
    stop_loss: float | None = None
    take_profit: float | None = None
    position_size: float | None = None


def preview_assessment(
    *,
    account: Account,
    asked: AssessmentRequest,
    portfolio_state: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Assess without trading, store the decision, and answer in the contract's shape.

    `portfolio_state` (of STATED, equity at least) stands in for the account's own portfolio. What
    is not finite is null in the answer. Raises Instrument.DoesNotExist for an unknown asset and
    KeyError for an unknown signal type.
    """
    instrument = Instrument.objects.get(coin_id=asked.asset)
    portfolio = (
        account_portfolio(account=account, bar=None, strategy=asked.strategy)
        if portfolio_state is None
        else _stated_portfolio(portfolio_state)
    )
    now = clock.now()
    venue = venue_of(instrument=instrument, exchange=account.exchange, at=now)
    request = Request(
        direction=DIRECTIONS[asked.signal_type],
        confidence=asked.confidence,
        price=asked.price,
        stop_loss=or_nan(asked.stop_loss),
        take_profit=or_nan(asked.take_profit),
        proposed_size=or_nan(asked.position_size),
        # Not yet an order: sized to the cent, not to the venue's steps.
        step_notional=0.0,
        min_notional=venue.min_notional if venue else 0.0,
    )
    decision, verdict = assess(
        profile=account.profile,
        portfolio=lambda: portfolio,
        instrument=instrument,
        request=request,
        at=now,
        strategy=asked.strategy,
        context={"request": "assessment", "signal_id": asked.signal_id},
    )
    limits = limits_of(profile=account.profile, strategy=asked.strategy)
    answer = {
        "signal_id": asked.signal_id,
        "asset": asked.asset,
        "signal_type": asked.signal_type,
        "signal_price": asked.price,
        "signal_confidence": asked.confidence,
        "timestamp": decision.at,
        "risk_assessment": _assessment(decision, verdict, portfolio, asked.price),
        "risk_limits_enforcement": _enforcement(verdict, limits, portfolio),
        "risk_config_snapshot": decision.config_snapshot,
    }
    told: dict[str, Any] = _told(answer)
    return told


def _told(value: Any) -> Any:
    """The value as JSON can carry it."""
    if isinstance(value, dict):
        return {name: _told(each) for name, each in value.items()}
    return _known(value) if isinstance(value, float) else value


def _assessment(
    decision: RiskDecision, verdict: Verdict, portfolio: Portfolio, price: float
) -> dict[str, Any]:
    equity = portfolio.equity
    stop, target = decision.stop_loss, decision.take_profit
    distance = abs(price - stop) if stop is not None else 0.0
    has_ratio = target is not None and distance > 0.0
    return {
        "is_approved": decision.is_approved,
        "rejection_reason": decision.rejection_reason,
        "risk_level": decision.risk_level,
        "recommended_position_size": verdict.size,
        "position_size_pct_of_equity": 100.0 * verdict.size / equity if equity > 0.0 else None,
        "position_size_method": METHODS[verdict.sizes.method],
        "position_sizes": {
            name: _known(value)
            for name, value in verdict.sizes._asdict().items()
            if name != "method"
        },
        "stop_loss_price": stop,
        "take_profit_price": target,
        "risk_reward_ratio": abs((target or 0.0) - price) / distance if has_ratio else None,
        "position_risk_percent": 100.0 * verdict.risk / equity if equity > 0.0 else None,
        "portfolio_heat": verdict.usage.leverage,
        "risk_warnings": decision.warnings,
        "current_drawdown_pct": 100.0 * portfolio.drawdown,
        "daily_pnl_impact": -verdict.risk,
        "portfolio_impact": verdict.wanted / equity if equity > 0.0 else None,
        "market_volatility": _known(verdict.usage.volatility),
        "correlation_risk": _known(verdict.usage.correlation),
        "processing_time_ms": decision.processing_time_ms,
    }


def _enforcement(verdict: Verdict, limits: Limits, portfolio: Portfolio) -> dict[str, Any]:
    table = limit_table(verdict.usage, limits)
    daily_loss = max(0.0, -portfolio.daily_pnl)
    answer: dict[str, Any] = {
        "max_drawdown_limit_pct": 100.0 * limits.max_drawdown,
        "daily_loss_limit_pct": 100.0 * limits.max_daily_loss,
        "per_trade_stop_loss_pct": 100.0 * limits.default_stop,
        "max_position_size_pct": 100.0 * limits.max_position_size,
        "current_drawdown_vs_limit": _against(portfolio.drawdown, limits.max_drawdown),
        "daily_loss_vs_limit": {
            "current_loss_amount": daily_loss,
            "limit_amount": limits.max_daily_loss * portfolio.day_start_equity,
            "current_loss_pct": 100.0 * daily_loss / portfolio.day_start_equity
            if portfolio.day_start_equity > 0.0
            else None,
            "limit_pct": 100.0 * limits.max_daily_loss,
            "utilization_pct": 100.0
            * daily_loss
            / (limits.max_daily_loss * portfolio.day_start_equity)
            if portfolio.day_start_equity > 0.0
            else None,
        },
    }
    for name, (value, bound) in table.items():
        if name in ANSWERED_APART:
            continue
        key = f"{name.removeprefix('max_').removeprefix('min_')}_vs_limit"
        if BY_NAME[name].unit in SHARES:
            answer[key] = _against(value, bound)
        else:
            answer[key] = {
                "current": _known(value),
                "limit": bound,
                "utilization_pct": _percent(utilization(name, value, bound)),
            }
    return answer


def _against(value: float, bound: float) -> dict[str, float | None]:
    known = _known(value)
    return {
        "current_pct": _percent(known),
        "limit_pct": 100.0 * bound,
        "utilization_pct": _percent(known / bound if known is not None and bound else None),
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _stated_portfolio(state: Mapping[str, float]) -> Portfolio:
    equity = state["equity"]
    return Portfolio(
        equity=equity,
        cash=state.get("cash", equity),
        open_risk=state.get("open_risk", 0.0),
        high_water_mark=state.get("high_water_mark", equity),
        day_start_equity=state.get("day_start_equity", equity),
        exposures={"": state.get("gross_exposure", 0.0)},
    )


def or_nan(value: float | None) -> float:
    """A price or size as the scalar functions take it: NaN for none."""
    return math.nan if value is None else value
