"""What ends a protected position inside a closed bar: its stop or its target. Pure; compiles."""

from __future__ import annotations

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
    that there is none. What the open decides comes first. Then the stop counts, also where the bar
    goes through both.
    """
    stop = level_ticks(stop_loss, grid.tick_num, grid.tick_den)
    target = level_ticks(take_profit, grid.tick_num, grid.tick_den)
    stopping = WorkingOrder(STOP, -direction, steps, 0, stop, 0, 0, False)
    taking = WorkingOrder(LIMIT, -direction, steps, target, 0, 0, 0, True)
    for top, bottom in ((open_price, open_price), (high, low)):
        if stop > 0:
            match = match_bar(stopping, open_price, top, bottom, slippage_bps, grid)
            if match.action == FILLED:
                return STOP_HIT, match
        if target > 0:
            match = match_bar(taking, open_price, top, bottom, slippage_bps, grid)
            if match.action == FILLED:
                return TARGET_HIT, match
    return NO_EXIT, Match(NO_MATCH, 0, 0, NO_LIQUIDITY, 0, 0, False)
