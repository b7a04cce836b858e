"""The only fill logic: what a market order pays and when a bar hits a stop or target. Pure.

Scalar functions that compile; prices come in as floats and leave as integer ticks, always rounded
against the trader.
"""

from __future__ import annotations

import math

NO_EXIT = 0
STOP_HIT = 1
TARGET_HIT = 2

# Doubles that mean a whole number of ticks may miss it by their last bits.
ON_GRID = 1e-6
BPS = 10_000.0


def nearest_ticks(price: float, tick_num: int, tick_den: int) -> int:
    """The price in whole ticks of `tick_num / tick_den` quote units, nearest."""
    return math.floor(price * tick_den / tick_num + 0.5)


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


def market_fill_ticks(
    side: int,
    best_bid: float,
    best_ask: float,
    slippage_bps: float,
    tick_num: int,
    tick_den: int,
) -> int:
    """What a market order gets from a quote, in ticks: the far side of the book plus slippage."""
    price = best_ask if side > 0 else best_bid
    return adverse_ticks(side, price * (1.0 + side * slippage_bps / BPS), tick_num, tick_den)


def protective_exit(
    direction: int,
    stop_loss: float,
    take_profit: float,
    open_price: float,
    high: float,
    low: float,
) -> tuple[int, float]:
    """Whether a closed bar ends a position, as (NO_EXIT, STOP_HIT or TARGET_HIT, price).

    The order of events inside a bar is unknown, so the stop counts first when both lie in it. A
    bar that opens beyond a level leaves at its open, the first price there was. NaN means no such
    level. The price is NaN without an exit.
    """
    if direction * (open_price - stop_loss) <= 0.0:
        return STOP_HIT, open_price
    if direction * (open_price - take_profit) >= 0.0:
        return TARGET_HIT, open_price
    worst = low if direction > 0 else high
    best = high if direction > 0 else low
    if direction * (worst - stop_loss) <= 0.0:
        return STOP_HIT, stop_loss
    if direction * (best - take_profit) >= 0.0:
        return TARGET_HIT, take_profit
    return NO_EXIT, math.nan


def exit_ticks(
    leg: int, side: int, price: float, slippage_bps: float, tick_num: int, tick_den: int
) -> int:
    """The fill of a protective exit, in ticks.

    A stop becomes a market order and slips; a target is a resting limit order and does not.
    """
    slipped = price
    if leg == STOP_HIT:
        slipped = price * (1.0 + side * slippage_bps / BPS)
    return adverse_ticks(side, slipped, tick_num, tick_den)
