"""Orders and executions as values, and a venue's price grid as integers. Pure.

OrderError
├── GridError     a tick, step or quantity that cannot be counted exactly (permanent)
└── AmountError   an amount beyond what 64 bits count (another price may do)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from trading import accounting
from trading.accounting import MAX_COUNT, MAX_STEPS
from trading.ticks import level_ticks

MONEY_UNITS = 100_000_000  # money units per quote unit

# What a fill pays, in parts per million of its notional, at the entry level of each venue:
# Binance USD-M futures "Regular user" maker 0.0200%, taker 0.0500% (binance.com/en/fee/futureFee);
# Bybit linear perpetuals "VIP 0" maker 0.0200%, taker 0.0550%
# (bybit.com/en/help-center/article/Trading-Fee-Structure).
MAKER_FEE_PPM: dict[str, int] = {"binance": 200, "bybit": 200}
TAKER_FEE_PPM: dict[str, int] = {"binance": 500, "bybit": 550}

# The equity that a position must keep, in parts per million of its notional, in the lowest tier
# of the largest contract: Binance USD-M BTCUSDT 0.40% up to 50,000 USDT
# (binance.com/en/futures/trading-rules/perpetual/leverage-margin), Bybit BTCUSDT 0.5% up to
# 2,000,000 USDT (bybit.com/en/announcement-info/margin-parameters).
MAINTENANCE_PPM: dict[str, int] = {"binance": 4_000, "bybit": 5_000}

# What a market order of an account this small pays beyond the best price.
SLIPPAGE_BPS = 1.0


class OrderError(Exception):
    """An order cannot be made from what was given. Nothing was written."""


class GridError(OrderError):
    """A tick, step or quantity is not a positive number that the books can count."""


class AmountError(OrderError):
    """A notional, cost or result is larger than the books can count."""


class Grid(NamedTuple):
    """A listing's tick and step as exact ratios, and the money value of one tick x one step.

    Integers only, so it goes whole into the scalar functions that compile.
    """

    tick_num: int
    tick_den: int
    step_num: int
    step_den: int
    unit_num: int
    unit_den: int

    @staticmethod
    def of(tick_size: str, quantity_step: str) -> Grid:
        """The grid of two decimal strings. Raises GridError."""
        return _grid_of(tick_size, quantity_step)

    def price(self, ticks: int) -> float:
        """A price in quote units."""
        return ticks * self.tick_num / self.tick_den

    def nearest_price(self, price: float) -> float:
        """The price of the tick nearest to `price`, at least one tick; NaN stays NaN."""
        if math.isnan(price):
            return price
        return self.price(level_ticks(price, self.tick_num, self.tick_den))

    def quantity(self, steps: int) -> float:
        """A quantity in base units."""
        return steps * self.step_num / self.step_den

    def step_notional(self, ticks: int) -> float:
        """The quote value of one step at a price of `ticks`."""
        return ticks * self.unit_num / self.unit_den / MONEY_UNITS

    def quantity_text(self, steps: int) -> str:
        """A quantity as an exact decimal string."""
        return decimal_text(steps, self.step_num, self.step_den)

    def price_text(self, ticks: int) -> str:
        """A price as an exact decimal string."""
        return decimal_text(ticks, self.tick_num, self.tick_den)


@dataclass(frozen=True, kw_only=True)
class OrderRequest:
    """A market order that risk let through. `side` is 1 (buy) or -1 (sell); `steps` > 0."""

    side: int
    steps: int

    def __post_init__(self) -> None:
        if self.side not in (1, -1):
            raise OrderError(f"side must be 1 or -1, not {self.side}")
        if not 0 < self.steps <= MAX_STEPS:
            raise GridError(f"{self.steps} steps: the books count from 1 to {MAX_STEPS}")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What an order got: signed `steps` at `ticks`, with money units of fee and realised PnL."""

    steps: int
    ticks: int
    fee: int
    realised: int
    quantity_after: int
    cost_after: int


def execute(
    request: OrderRequest, *, quantity: int, total_cost: int, ticks: int, grid: Grid, fee_ppm: int
) -> Execution:
    """The request filled at `ticks` against a position of signed `quantity` and `total_cost`.

    Raises AmountError.
    """
    steps = request.side * request.steps
    after, cost, realised = accounting.apply_fill(
        quantity, total_cost, steps, ticks, grid.unit_num, grid.unit_den
    )
    amount = accounting.notional(steps, ticks, grid.unit_num, grid.unit_den)
    if max(request.steps * ticks, abs(amount), abs(cost), abs(realised)) > MAX_COUNT:
        raise AmountError(f"{request.steps} steps at {ticks} ticks: more than the books count")
    return Execution(
        steps=steps,
        ticks=ticks,
        fee=accounting.fee(amount, fee_ppm),
        realised=realised,
        quantity_after=after,
        cost_after=cost,
    )


def transition(held: int, wanted: int) -> tuple[bool, bool]:
    """What a signal does to a position, as (closes, opens): it moves to the wanted direction.

    Flat closes, the opposite closes and then opens, the same does nothing.
    """
    return held not in (0, wanted), wanted not in (0, held)


def decimal_text(count: int, numerator: int, denominator: int) -> str:
    """count x numerator / denominator as a decimal string, exact.

    A grid comes from a decimal string, so its denominator divides a power of ten. All counts on
    one grid have the same number of decimal places.
    """
    places = 0
    scaled = Fraction(numerator, denominator)
    while scaled.denominator != 1:
        places += 1
        scaled *= 10
    value = count * scaled.numerator
    digits = str(abs(value)).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    if not places:
        return sign + digits
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


@lru_cache(maxsize=4096)  # a venue has few grids, and every row of the books asks for its own
def _grid_of(tick_size: str, quantity_step: str) -> Grid:
    tick = _positive(tick_size)
    step = _positive(quantity_step)
    unit = tick * step * MONEY_UNITS
    return Grid(
        tick_num=tick.numerator,
        tick_den=tick.denominator,
        step_num=step.numerator,
        step_den=step.denominator,
        unit_num=unit.numerator,
        unit_den=unit.denominator,
    )


def _positive(text: str) -> Fraction:
    try:
        value = Fraction(text) if "/" not in text else Fraction(0)
    except ValueError:
        raise GridError(f"{text!r} is not a decimal number") from None
    if value <= 0:
        raise GridError(f"{text!r} is not a positive decimal number")
    return value
