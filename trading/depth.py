"""The walk over one side of an order book: what an order takes from its levels. Pure.

Compiles. Levels are two float64 arrays of N, prices and quantities of the side that the order
hits, best first, as a synchronised book has them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trading.orders import Grid
from trading.ticks import adverse_ticks, shown_steps

FloatArray = NDArray[np.float64]


class Sweep(NamedTuple):
    """What the walk took: `steps` at an average of `ticks`, from a book whose best price was
    `touch_ticks`. All 0 where the book shows nothing; `ticks` is 0 where nothing was taken."""

    steps: int
    ticks: int
    touch_ticks: int


def is_beyond(side: int, ticks: int, bound_ticks: int) -> bool:
    """Whether a price is worse for the trader than a bound; 0 is no bound."""
    return bound_ticks > 0 and side * (ticks - bound_ticks) > 0


def sweep_levels(
    side: int,
    wanted_steps: int,
    prices: FloatArray,
    quantities: FloatArray,
    bound_ticks: int,
    grid: Grid,
) -> Sweep:
    """Take up to `wanted_steps` from the levels, none at a price beyond `bound_ticks`.

    Every level gives its whole steps, at its price rounded against the trader (a venue's own level
    is on the grid). The average is one division of whole numbers, rounded once, against the trader.
    A level that is no price ends the walk.
    """
    taken = 0
    cost = 0  # in ticks times steps
    touch = 0
    for level in range(len(prices)):
        price = float(prices[level])
        if not 0.0 < price < math.inf:
            break
        ticks = adverse_ticks(side, price, grid.tick_num, grid.tick_den)
        if level == 0:
            touch = ticks
        if is_beyond(side, ticks, bound_ticks):
            break
        shown = shown_steps(float(quantities[level]), grid.step_num, grid.step_den)
        steps = min(shown, wanted_steps - taken)
        taken += steps
        cost += steps * ticks
        if taken == wanted_steps:
            break
    if taken == 0:
        return Sweep(0, 0, touch)
    average = -(-cost // taken) if side > 0 else cost // taken
    return Sweep(taken, average, touch)
