"""Which of several orders a closed bar fills first: a stop before a target. Pure; compiles."""

from __future__ import annotations

from collections.abc import Sequence

from trading.orders import Grid
from trading.simulator import (
    FILLED,
    LIMIT,
    NO_LIQUIDITY,
    NO_MATCH,
    STOP,
    Match,
    WorkingOrder,
    match_bar,
)
from trading.ticks import level_ticks

NO_EXIT = 0
STOP_HIT = 1
TARGET_HIT = 2

NOBODY = -1


def first_fill(
    orders: Sequence[WorkingOrder],
    grids: Sequence[Grid],
    open_price: float,
    high: float,
    low: float,
    slippages: Sequence[float],
) -> tuple[int, Match]:
    """The place of the first of `orders` that the bar fills, and its fill; NOBODY for none.

    What the open decides comes first, for all of them; only then what lies inside the bar, in
    their order: so a gap through a target at the open is no stop, whatever the bar did later.
    `grids` has the grid of each order, `slippages` what each pays where it takes, in bps.
    """
    for top, bottom in ((open_price, open_price), (high, low)):
        for place in range(len(orders)):
            match = match_bar(
                orders[place], open_price, top, bottom, slippages[place], grids[place]
            )
            if match.action == FILLED:
                return place, match
    return NOBODY, Match(NO_MATCH, 0, 0, NO_LIQUIDITY, 0, 0, False)


def protective_exit(
    direction: int,
    steps: int,
    stop_loss: float,
    take_profit: float,
    open_price: float,
    high: float,
    low: float,
    slippage_bps: float,
    grid: Grid,
) -> tuple[int, Match]:
    """Whether a closed bar ends a position of `steps`, as (NO_EXIT, STOP_HIT or TARGET_HIT, fill).

    Stop and target are a stop and a resting limit order of which one cancels the other; NaN means
    that there is none. Where the bar goes through both, the stop counts.
    """
    stop = level_ticks(stop_loss, grid.tick_num, grid.tick_den)
    target = level_ticks(take_profit, grid.tick_num, grid.tick_den)
    # Without its level an order never fills.
    stopping = WorkingOrder(STOP, -direction, steps, 0, stop, 0, 0, False)
    taking = WorkingOrder(LIMIT, -direction, steps, target, 0, 0, 0, True)
    place, match = first_fill(
        (stopping, taking), (grid, grid), open_price, high, low, (slippage_bps, slippage_bps)
    )
    return (NO_EXIT, STOP_HIT, TARGET_HIT)[place + 1], match
