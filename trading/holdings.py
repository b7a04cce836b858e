"""Open positions as values, and the portfolio that risk sees of them. Pure.

Paper trading and the backtest both mark their books here, so risk meets the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from risk.portfolio import NO_RECORD, Portfolio, Record
from trading.accounting import notional, unrealised
from trading.orders import MONEY_UNITS, Grid


@dataclass(frozen=True, kw_only=True)
class Holding:
    """An open position: signed steps, its total cost in money units, its protective prices.

    NaN means no stop or no target.
    """

    coin_id: str
    grid: Grid
    quantity: int
    total_cost: int
    stop_loss: float
    take_profit: float

    @property
    def direction(self) -> int:
        """1 for long, -1 for short, 0 for flat."""
        return (self.quantity > 0) - (self.quantity < 0)

    @property
    def cost_ticks(self) -> int:
        """The average price paid, in whole ticks: the mark where no price is known at all."""
        return self.total_cost * self.grid.unit_den // (self.quantity * self.grid.unit_num)

    def exposure(self, ticks: int) -> int:
        """The signed notional at a price of `ticks`, in money units."""
        return notional(self.quantity, ticks, self.grid.unit_num, self.grid.unit_den)

    def unrealised(self, ticks: int) -> int:
        """What closing at `ticks` would realise, in money units."""
        return unrealised(
            self.quantity, self.total_cost, ticks, self.grid.unit_num, self.grid.unit_den
        )

    def open_risk(self, ticks: int) -> float:
        """What is lost from here to the stop, in quote units; without a stop, the whole exposure.

        A stop beyond the mark (in profit) risks nothing.
        """
        exposure = abs(self.exposure(ticks)) / MONEY_UNITS
        if math.isnan(self.stop_loss):
            return exposure
        mark = self.grid.price(ticks)
        return exposure * max(0.0, self.direction * (mark - self.stop_loss) / mark)


def marked_equity(*, cash: int, holdings: Iterable[Holding], marks: Mapping[str, int]) -> int:
    """Cash plus unrealised PnL in money units; `marks` are ticks by coin id."""
    return cash + sum(holding.unrealised(marks[holding.coin_id]) for holding in holdings)


def marked_portfolio(
    *,
    cash: int,
    holdings: Iterable[Holding],
    marks: Mapping[str, int],
    high_water_mark: int,
    day_start_equity: int,
    record: Record = NO_RECORD,
) -> Portfolio:
    """The account as risk sees it, marked at `marks` (ticks by coin id).

    `record` is that of the strategy whose request is judged.
    """
    held = sorted(holdings, key=lambda holding: holding.coin_id)
    equity = marked_equity(cash=cash, holdings=held, marks=marks)
    return Portfolio(
        equity=equity / MONEY_UNITS,
        cash=cash / MONEY_UNITS,
        open_risk=sum(holding.open_risk(marks[holding.coin_id]) for holding in held),
        high_water_mark=high_water_mark / MONEY_UNITS,
        day_start_equity=day_start_equity / MONEY_UNITS,
        exposures={
            holding.coin_id: holding.exposure(marks[holding.coin_id]) / MONEY_UNITS
            for holding in held
        },
        record=record,
    )
