"""How large a position may be and where its stop and target lie. Pure; scalars that compile.

Every function works on plain numbers, so that paper trading runs it in Python and a backtest may
compile it; both give the same bits.
"""

from __future__ import annotations

import math


def position_notional(
    equity: float, confidence: float, base_size: float, proposal: float, max_position_size: float
) -> float:
    """The wanted notional in quote units: fixed percent of equity, capped.

    The fraction of equity is the strategy's own `proposal` when it has one (NaN or 0 means none),
    else `base_size` x `confidence`; never above `max_position_size`.
    """
    fraction = base_size * confidence
    if proposal > 0.0:
        fraction = proposal
    return equity * min(fraction, max_position_size)


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
