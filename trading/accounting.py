"""Exact books in integers: notional, fees, positions, equity; the only place that rounds. Pure.

Money is a count of 1e-8 quote units, a price a count of ticks, a quantity a signed count of steps.
One tick times one step is worth `unit_num / unit_den` money units, an exact ratio (see
`trading.orders.Grid`). All functions are scalar and compile with int64: every intermediate stays
below 2**63 while amounts do (92 billion quote units) and quantities stay within `MAX_STEPS`.
"""

from __future__ import annotations

MAX_STEPS = 3_000_000_000  # a remainder times a quantity must fit in 63 bits
MAX_COUNT = 2**63 - 1  # of money units, and of ticks times steps
PARTS_PER_MILLION = 1_000_000


def multiply_divide(value: int, factor: int, divisor: int) -> int:
    """`value` x `factor` / `divisor`, rounded half to even, exactly. `divisor` > 0, `factor` >= 0.

    The one rounding of the books. The quotient is taken before the product, so nothing larger than
    the result or than `divisor` x `factor` ever appears.
    """
    whole = (value // divisor) * factor
    rest = (value % divisor) * factor
    result = whole + rest // divisor
    twice = 2 * (rest % divisor)
    if twice > divisor or (twice == divisor and result % 2 == 1):
        result += 1
    return result


def notional(steps: int, ticks: int, unit_num: int, unit_den: int) -> int:
    """The signed worth of `steps` at a price of `ticks`, in money units."""
    return multiply_divide(steps * ticks, unit_num, unit_den)


def fee(amount: int, rate_ppm: int) -> int:
    """The fee on a notional of either sign at `rate_ppm` parts per million; never negative."""
    return multiply_divide(abs(amount), rate_ppm, PARTS_PER_MILLION)


def apply_fill(
    quantity: int, total_cost: int, steps: int, ticks: int, unit_num: int, unit_den: int
) -> tuple[int, int, int]:
    """A fill of signed `steps` at `ticks` -> (new quantity, new total cost, realised PnL).

    `total_cost` is the signed cost of the open quantity, so no average price exists to be rounded.
    What reduces the position gives up its share of the cost (all of it when it closes); what lies
    beyond zero opens the other side. Each of the two parts rounds once at most.
    """
    closing = 0
    if quantity > 0 and steps < 0:
        closing = max(steps, -quantity)
    elif quantity < 0 and steps > 0:
        closing = min(steps, -quantity)
    realised = 0
    if closing != 0:
        given_up = total_cost
        if closing != -quantity:
            given_up = multiply_divide(total_cost, abs(closing), abs(quantity))
        realised = -notional(closing, ticks, unit_num, unit_den) - given_up
        total_cost -= given_up
        quantity += closing
    opening = steps - closing
    if opening != 0:
        total_cost += notional(opening, ticks, unit_num, unit_den)
        quantity += opening
    return quantity, total_cost, realised


def unrealised(quantity: int, total_cost: int, ticks: int, unit_num: int, unit_den: int) -> int:
    """What closing the position at a price of `ticks` would realise, in money units."""
    return notional(quantity, ticks, unit_num, unit_den) - total_cost


def roll_marks(
    equity: int, day: int, high_water_mark: int, day_start_equity: int, marked_day: int
) -> tuple[int, int, int]:
    """Marking at `equity` on `day` -> (high-water mark, day's starting equity, its day).

    Days are ordinals in UTC. The first mark of a new day is that day's start.
    """
    if day > marked_day:
        day_start_equity = equity
        marked_day = day
    return max(high_water_mark, equity), day_start_equity, marked_day
