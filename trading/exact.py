"""Decimal prices and quantities as exact counts of a venue's grid, and refused between. Pure.

OffGridError    (an OrderError) not a whole number of ticks or steps; names the valid ones beside it
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

from trading.accounting import MAX_STEPS
from trading.orders import Grid, OrderError


class OffGridError(OrderError):
    """Not a whole number of ticks or steps, or more than the books count."""


def exact_ticks(price: Decimal, grid: Grid) -> int:
    """The price in ticks. Raises OffGridError, also for what is not above zero."""
    tick = Fraction(grid.tick_num, grid.tick_den)
    below, above = _around(price, tick)
    if below == above and below > 0:
        return below
    named = _named(below, above, grid.price_text)
    raise OffGridError(f"not a multiple of the tick {grid.price_text(1)}: {named}")


def exact_steps(quantity: Decimal, grid: Grid) -> int:
    """The quantity in steps. Raises OffGridError, also for what is not above zero."""
    step = Fraction(grid.step_num, grid.step_den)
    below, above = _around(quantity, step)
    if above > MAX_STEPS:
        raise OffGridError(f"at most {grid.quantity_text(MAX_STEPS)} is counted")
    if below == above and below > 0:
        return below
    named = _named(below, above, grid.quantity_text)
    raise OffGridError(f"not a multiple of the step {grid.quantity_text(1)}: {named}")


def steps_within(amount: Decimal, ticks: int, grid: Grid) -> int:
    """The whole steps that `amount` quote units buy at a price of `ticks`, at most MAX_STEPS."""
    price = Fraction(ticks * grid.tick_num, grid.tick_den)
    quantity = Fraction(amount) / price
    return min(math.floor(quantity / Fraction(grid.step_num, grid.step_den)), MAX_STEPS)


def _around(value: Decimal, unit: Fraction) -> tuple[int, int]:
    count = Fraction(value) / unit
    return math.floor(count), math.ceil(count)


def _named(below: int, above: int, text: Callable[[int], str]) -> str:
    if below <= 0:
        return f"the least is {text(1)}"
    return f"the nearest are {text(below)} and {text(above)}"
