"""How large a position may be and where its stop and target lie. Pure; scalars that compile.

Every function works on plain numbers, so that paper trading runs it in Python and a backtest may
compile it; both give the same bits. Four methods each say a size in quote units, capped, or NaN
where they have nothing to go by; `blended_size` weighs those that do.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from risk.limits import Limits
from risk.portfolio import Standing

# What each method weighs in the blend; those that are undefined leave theirs to the others.
FIXED_WEIGHT = 0.30
KELLY_WEIGHT = 0.30
VOLATILITY_WEIGHT = 0.25
PARITY_WEIGHT = 0.15
DAYS_PER_YEAR = 365.0

BLENDED = 0
PROPOSED = 1
CAPPED = 2
METHODS = {BLENDED: "blended", PROPOSED: "proposal", CAPPED: "max_position_size"}


class Sizes(NamedTuple):
    """What each method would grant and what the blend of them is, quote units; NaN is undefined.

    `method` says whether the blend, the request's own proposal or the cap decided (`METHODS`), and
    `granted` the result, before it is floored to whole steps.
    """

    fixed_percent: float
    kelly: float
    volatility_target: float
    risk_parity: float
    blended: float
    proposed: float
    granted: float
    method: int


def position_sizes(standing: Standing, limits: Limits, confidence: float, proposal: float) -> Sizes:
    """All methods for a request of `confidence`, and what is granted.

    `proposal` is the strategy's own fraction of equity (NaN or 0 means none), an upper bound.
    """
    equity = standing.equity
    cap = equity * limits.max_position_size
    fixed = min(fixed_percent(equity, confidence, limits.base_size), cap)
    kelly = kelly_size(
        equity, standing.trades, standing.wins, standing.won, standing.lost,
        limits.kelly_fraction, limits.kelly_min_trades,
    )  # fmt: skip
    volatility = volatility_size(equity, standing.daily_volatility, limits.volatility_target)
    parity = parity_size(standing.held_risk, standing.daily_volatility)
    kelly, volatility, parity = capped(kelly, cap), capped(volatility, cap), capped(parity, cap)
    blended = blended_size(fixed, kelly, volatility, parity)
    granted, method = blended, BLENDED
    proposed = equity * proposal if proposal > 0.0 else math.nan
    if proposed < granted:
        granted, method = proposed, PROPOSED
    if cap < granted:
        granted, method = cap, CAPPED
    return Sizes(fixed, kelly, volatility, parity, blended, proposed, granted, method)


def capped(size: float, cap: float) -> float:
    """The size, at most `cap`; undefined stays undefined."""
    return min(size, cap) if not math.isnan(size) else math.nan


def fixed_percent(equity: float, confidence: float, base_size: float) -> float:
    """`base_size` of equity at full confidence, in proportion below."""
    return equity * base_size * confidence


def kelly_size(
    equity: float,
    trades: int,
    wins: int,
    won: float,
    lost: float,
    kelly_fraction: float,
    kelly_min_trades: int,
) -> float:
    """A share of Kelly's bet p - (1 - p) / b, by the record; NaN below `kelly_min_trades`.

    p is the share of winners, b the average win over the average loss. The bet is taken as
    notional although a stop loses less of it: a gap need not stop at the stop. Without an edge it
    is 0, which weighs in the blend. Kelly, "A New Interpretation of Information Rate", 1956.
    """
    if trades < kelly_min_trades or trades <= 0:
        return math.nan
    average_win = won / wins if wins > 0 else 0.0
    if average_win <= 0.0:
        return 0.0
    losses = trades - wins
    share = wins / trades
    edge = share
    if losses > 0:
        edge = share - (1.0 - share) * (lost / losses) / average_win
    return equity * kelly_fraction * max(edge, 0.0)


def volatility_size(equity: float, daily_volatility: float, target: float) -> float:
    """What moves the account by `target` (yearly volatility of equity); NaN without volatility."""
    yearly = daily_volatility * math.sqrt(DAYS_PER_YEAR)
    if not yearly > 0.0:
        return math.nan
    return equity * target / yearly


def parity_size(held_risk: float, daily_volatility: float) -> float:
    """What moves as much in a day as the average other position; NaN when nothing else is held.

    Equal risk contributions under equal correlations: sizes go by inverse volatility. Maillard,
    Roncalli and Teiletche, "The Properties of Equally Weighted Risk Contribution Portfolios", 2010.
    """
    if not (held_risk > 0.0 and daily_volatility > 0.0):
        return math.nan
    return held_risk / daily_volatility


def blended_size(fixed: float, kelly: float, volatility: float, parity: float) -> float:
    """The weighted mean of the defined methods; `fixed` always is."""
    total = FIXED_WEIGHT
    total += KELLY_WEIGHT if not math.isnan(kelly) else 0.0
    total += VOLATILITY_WEIGHT if not math.isnan(volatility) else 0.0
    total += PARITY_WEIGHT if not math.isnan(parity) else 0.0
    # Shares first: alone, a method's share is exactly 1 and its size comes through unchanged.
    size = FIXED_WEIGHT / total * fixed
    if not math.isnan(kelly):
        size += KELLY_WEIGHT / total * kelly
    if not math.isnan(volatility):
        size += VOLATILITY_WEIGHT / total * volatility
    if not math.isnan(parity):
        size += PARITY_WEIGHT / total * parity
    return size


def whole_steps(notional: float, step_notional: float) -> int:
    """How many whole quantity steps of `step_notional` quote units fit into `notional`."""
    if not step_notional > 0.0:
        return 0
    return math.floor(notional / step_notional)


def stop_price(direction: int, price: float, proposal: float, default_stop: float) -> float:
    """The strategy's own stop, or `default_stop` (a fraction) of the entry price away from it."""
    if proposal > 0.0:
        return proposal
    return price * (1.0 - direction * default_stop)


def target_price(
    direction: int, price: float, stop: float, proposal: float, reward_risk_ratio: float
) -> float:
    """The strategy's own target, or `reward_risk_ratio` times the stop distance beyond entry.

    A short whose default target would lie at or below zero gets none (NaN).
    """
    if proposal > 0.0:
        return proposal
    target = price + direction * reward_risk_ratio * abs(price - stop)
    if target <= 0.0:
        return math.nan
    return target
