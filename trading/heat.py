"""An account's heat now: read from its books and closed candles, as programs and people read it."""

from __future__ import annotations

from typing import Any

from collectors import clock
from risk.metrics import Heat
from risk.selectors import heat_of, limits_of
from trading.models import Account
from trading.selectors import account_portfolio


def account_heat(*, account: Account) -> Heat | None:
    """What the account holds, marked at the newest closes; None when it has no equity left."""
    portfolio = account_portfolio(account=account, bar=None)
    if not portfolio.equity > 0.0:
        return None
    return heat_of(portfolio=portfolio, at=clock.now())


def heat_json(*, account: Account) -> dict[str, Any]:
    """The heat beside its limits. Shares are fractions of equity, the tail is in quote units; null
    is undefined, `heat` as a whole when no equity is left."""
    limits = limits_of(profile=account.profile)
    bounds = {
        "instrument": limits.max_single_asset,
        "sector": limits.max_sector,
        "gross": limits.max_leverage,
    }
    heat = account_heat(account=account)
    return {"account": account.pk, "limits": bounds, "heat": heat and _told(heat)}


def _told(heat: Heat) -> dict[str, Any]:
    return {
        "equity": heat.equity,
        "gross": heat.gross,
        "by_instrument": dict(heat.by_instrument),
        "by_sector": dict(heat.by_sector),
        "by_direction": dict(heat.by_direction),
        "correlation_weighted": heat.correlation_weighted,
        "correlations": [
            {"instruments": list(pair), "correlation": value}
            for pair, value in heat.correlations.items()
        ],
        "tail": {
            "horizon_days": 1,
            "confidence": heat.tail.confidence,
            "days": heat.tail.days,
            "historical_var": heat.tail.historical_var,
            "historical_shortfall": heat.tail.historical_shortfall,
            "parametric_var": heat.tail.parametric_var,
            "parametric_shortfall": heat.tail.parametric_shortfall,
        },
    }
