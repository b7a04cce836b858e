"""How well a series of trades went: one function of trades and equity. Pure.

Crypto trades every day, so a year has 365. Whatever is undefined is None, never NaN and never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DAYS_PER_YEAR = 365.0
DAY_MS = 86_400_000
RISK_FREE_RATE = 0.02  # a year


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """A closed trade. `pnl` (before fees) and `fees` (both sides) in quote units; times in ms."""

    instrument: str
    strategy: str
    direction: int
    quantity: float
    entry_price: float
    exit_price: float
    pnl: float
    fees: float
    entered_at: int
    exited_at: int
    exit_reason: str

    @property
    def net(self) -> float:
        """What the trade brought after the fees of both sides."""
        return self.pnl - self.fees


def measure_performance(
    *,
    trades: Sequence[RoundTrip],
    times: Sequence[int],
    equity: Sequence[float],
    initial_capital: float,
    fees_paid: float,
    risk_free_rate: float = RISK_FREE_RATE,
) -> dict[str, float | int | None]:
    """Every metric of trades and of equity (quote units) marked at `times` (ms, ascending).

    `initial_capital` stands before the first mark. Wins and losses count net of fees.
    """
    final = equity[-1] if equity else initial_capital
    total = final / initial_capital - 1.0 if initial_capital > 0.0 else None
    wins = [trade.net for trade in trades if trade.net > 0.0]
    losses = [-trade.net for trade in trades if trade.net < 0.0]
    returns = daily_returns(times=times, equity=equity, initial_capital=initial_capital)
    return {
        "initial_capital": initial_capital,
        "final_value": final,
        "total_return": total,
        "annualised_return": _annualised(total, times),
        "volatility": _volatility(returns),
        "sharpe_ratio": sharpe_ratio(returns, risk_free_rate),
        "max_drawdown": max_drawdown(equity, initial_capital),
        "trade_count": len(trades),
        "win_count": len(wins),
        "loss_count": len(losses),
        "win_rate": len(wins) / len(trades) if trades else None,
        "profit_factor": math.fsum(wins) / math.fsum(losses) if losses else None,
        "expectancy": math.fsum(trade.net for trade in trades) / len(trades) if trades else None,
        "average_win": math.fsum(wins) / len(wins) if wins else None,
        "average_loss": math.fsum(losses) / len(losses) if losses else None,
        "largest_win": max(wins, default=None),
        "largest_loss": max(losses, default=None),
        "average_holding_hours": _average_hours(trades),
        "fees_paid": fees_paid,
    }


def daily_returns(
    *, times: Sequence[int], equity: Sequence[float], initial_capital: float
) -> list[float]:
    """Simple returns from one UTC day's last mark to the next, the first from the capital.

    A mark at midnight ends the day before it. Stops where equity is not positive.
    """
    last_of_day: dict[int, float] = {}
    for time, value in zip(times, equity, strict=True):
        last_of_day[(time - 1) // DAY_MS] = value
    returns = []
    before = initial_capital
    for value in last_of_day.values():
        if before <= 0.0:
            break
        returns.append(value / before - 1.0)
        before = value
    return returns


def sharpe_ratio(returns: Sequence[float], risk_free_rate: float) -> float | None:
    """Mean excess over the standard deviation (n - 1) of daily returns, times sqrt(365).

    William F. Sharpe, "The Sharpe Ratio", 1994. None for fewer than two days or a flat series.
    """
    deviation = _deviation(returns)
    if deviation is None or deviation == 0.0:
        return None
    excess = math.fsum(returns) / len(returns) - risk_free_rate / DAYS_PER_YEAR
    return excess / deviation * math.sqrt(DAYS_PER_YEAR)


def max_drawdown(equity: Sequence[float], initial_capital: float) -> float | None:
    """The deepest fall from a running maximum, as a positive fraction of it; None without marks."""
    if not equity:
        return None
    peak = initial_capital
    deepest = 0.0
    for value in equity:
        peak = max(peak, value)
        if peak > 0.0:
            deepest = max(deepest, (peak - value) / peak)
    return deepest


def by_group(trades: Sequence[RoundTrip], attribute: str) -> Mapping[str, Mapping[str, float]]:
    """Count and net result of the trades by `instrument`, `strategy` or `exit_reason`."""
    groups: dict[str, dict[str, float]] = {}
    for trade in trades:
        group = groups.setdefault(str(getattr(trade, attribute)), {"count": 0, "net": 0.0})
        group["count"] += 1
        group["net"] += trade.net
    return dict(sorted(groups.items()))


def _annualised(total: float | None, times: Sequence[int]) -> float | None:
    # A few hours blown up to a year say nothing, and overflow.
    if total is None or total <= -1.0 or len(times) < 2 or times[-1] - times[0] < DAY_MS:
        return None
    years = (times[-1] - times[0]) / DAY_MS / DAYS_PER_YEAR
    try:
        return math.exp(math.log1p(total) / years) - 1.0
    except OverflowError:
        return None


def _deviation(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _volatility(returns: Sequence[float]) -> float | None:
    deviation = _deviation(returns)
    return None if deviation is None else deviation * math.sqrt(DAYS_PER_YEAR)


def _average_hours(trades: Sequence[RoundTrip]) -> float | None:
    if not trades:
        return None
    return math.fsum(trade.exited_at - trade.entered_at for trade in trades) / len(trades) / 3.6e6
