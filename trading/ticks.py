"""Prices and quantities onto a venue's grid: doubles in, whole ticks and steps out. Pure.

Scalar functions that compile. Prices and quantities are finite; NaN where a function says so.
"""

from __future__ import annotations

import math

from trading.accounting import MAX_STEPS

# Doubles that mean a whole number of ticks or steps may miss it by their last bits.
ON_GRID = 1e-6


def nearest_ticks(price: float, tick_num: int, tick_den: int) -> int:
    """The price in whole ticks of `tick_num / tick_den` quote units, nearest."""
    return math.floor(price * tick_den / tick_num + 0.5)


def level_ticks(price: float, tick_num: int, tick_den: int) -> int:
    """A mark, or the level of a stop, target or limit, in whole ticks: nearest, at least one.

    NaN is no level: 0.
    """
    if math.isnan(price):
        return 0
    return max(nearest_ticks(price, tick_num, tick_den), 1)


def adverse_ticks(side: int, price: float, tick_num: int, tick_den: int) -> int:
    """The price in whole ticks, up for a buy (side 1) and down for a sell (side -1).

    A price on the grid, up to a millionth of a tick, stays. Never below one tick.
    """
    exact = price * tick_den / tick_num
    nearest = math.floor(exact + 0.5)
    if abs(exact - nearest) <= ON_GRID:
        ticks = nearest
    elif side > 0:
        ticks = math.floor(exact) + 1
    else:
        ticks = math.floor(exact)
    return max(ticks, 1)


def shown_steps(quantity: float, step_num: int, step_den: int) -> int:
    """The whole steps in a quantity that a quote or a level shows, never more than the books
    count. NaN, or less than one step, is 0."""
    exact = quantity * step_den / step_num
    if not exact > 0.0:
        return 0
    if exact >= MAX_STEPS:
        return MAX_STEPS
    return math.floor(exact + ON_GRID)
