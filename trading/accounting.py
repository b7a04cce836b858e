"""Exact books in integers: notional, fees, positions, equity; the only place that rounds. Pure.

Money is a count of 1e-8 quote units, a price a count of ticks, a quantity a signed count of steps.
One tick times one step is worth `unit_num / unit_den` money units, an exact ratio (see
`trading.orders.Grid`). All functions are scalar and compile with int64: every intermediate stays
below 2**63 while amounts do (92 billion quote units) and quantities stay within `MAX_STEPS`.
"""

from __future__ import annotations

import math

MAX_STEPS = 3_000_000_000  # a remainder times a quantity must fit in 63 bits
MAX_COUNT = 2**63 - 1  # of money units, and of ticks times steps
PARTS_PER_MILLION = 1_000_000
# Funding rates and mark prices are counted in 1e-8, which is all the places that venues give them
# with: of the notional, and of a quote unit.
RATE_PARTS = 100_000_000
PRICE_PARTS = 100_000_000


def half_even(whole: int, rest: int, divisor: int) -> int:
    """`whole` + `rest` / `divisor`, rounded half to even: the one rounding of the books.

    0 <= `rest` < `divisor`.
    """
    if 2 * rest > divisor or (2 * rest == divisor and whole % 2 == 1):
        return whole + 1
    return whole


def multiply_divide(value: int, factor: int, divisor: int) -> int:
    """`value` x `factor` / `divisor`, rounded half to even, exactly. `divisor` > 0, `factor` >= 0.

    The quotient is taken before the product, so nothing larger than
    the result or than `divisor` x `factor` ever appears.
    """
    whole = (value // divisor) * factor
    rest = (value % divisor) * factor
    return half_even(whole + rest // divisor, rest % divisor, divisor)


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


def count_of(value: float, parts: int) -> int:
    """A finite double as a whole count of `1 / parts`, nearest: 0.0001 of 1e-8 is 10,000."""
    return math.floor(value * parts + 0.5)


def funding_cash(quantity: int, mark_price: int, rate: int, step_num: int, step_den: int) -> int:
    """What a funding settlement moves: -(quantity x mark price x rate), rounded once, half to even.

    `quantity` is in signed steps of `step_num / step_den` base units, `mark_price` in 1e-8 quote
    units for a base unit, `rate` in 1e-8 of the notional, of either sign: a positive rate is paid
    by longs to shorts. In 64 bits exact while the notional is and `step_den` x 1e8 x `rate` stays
    below 2**63 (92% where a step is 0.001 base units).
    Source: Binance "Introduction to Binance Futures Funding Rates", funding amount = nominal value
    of positions x funding rate; Bybit "Funding Fee Calculation", the same.
    """
    if rate < 0:
        quantity, rate = -quantity, -rate
    # The notional is whole + part / step_den; neither is rounded before the rate is taken of both.
    units = quantity * step_num
    whole = (units // step_den) * mark_price
    part = (units % step_den) * mark_price
    whole += part // step_den
    part %= step_den
    divisor = RATE_PARTS * step_den
    rest = ((whole % RATE_PARTS) * step_den + part) * rate
    settled = (whole // RATE_PARTS) * rate + rest // divisor
    return -half_even(settled, rest % divisor, divisor)


def slippage_cost(
    steps: int, ticks: int, reference_ticks: int, unit_num: int, unit_den: int
) -> int:
    """What signed `steps` at `ticks` lost against a reference price; below zero it is a gain."""
    return notional(steps, ticks - reference_ticks, unit_num, unit_den)


def maintenance_margin(amount: int, rate_ppm: int) -> int:
    """The equity that a position of a notional of either sign must keep at `rate_ppm`."""
    return multiply_divide(abs(amount), rate_ppm, PARTS_PER_MILLION)


def is_liquidated(equity: int, maintenance: int) -> bool:
    """Whether an account is closed by force: its equity is no more than all its positions must
    keep. One without positions has nothing to close.

    Source: Binance and Bybit liquidate when the margin ratio, maintenance margin / margin balance,
    reaches 100%.
    """
    return maintenance > 0 and equity <= maintenance


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
