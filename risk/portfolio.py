"""What risk needs to know of an account's holdings, as a value. Pure.

`trading.selectors` builds a `Portfolio` from the books, the backtest from its own state. Amounts
are float quote units: the exact books stay in trading, risk only compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Standing(NamedTuple):
    """The portfolio as one request on one instrument meets it; scalars only, so it compiles.

    `instrument_exposure` is the absolute notional already held in the instrument and `open_risk`
    what would be lost if every open position left at its stop. Quote units.
    """

    equity: float
    gross_exposure: float
    instrument_exposure: float
    open_risk: float
    open_positions: int
    high_water_mark: float
    day_start_equity: float


@dataclass(frozen=True, kw_only=True)
class Portfolio:
    """An account marked at one moment. Quote units; `exposures` are signed notionals by coin id."""

    equity: float
    cash: float
    open_risk: float
    high_water_mark: float
    day_start_equity: float
    exposures: Mapping[str, float] = field(default_factory=dict)

    @property
    def gross_exposure(self) -> float:
        """The sum of absolute notionals."""
        return sum(abs(value) for value in self.exposures.values())

    @property
    def open_positions(self) -> int:
        """How many instruments are held."""
        return sum(1 for value in self.exposures.values() if value != 0.0)

    @property
    def drawdown(self) -> float:
        """The fall from the high-water mark, as a fraction of it."""
        return loss_fraction(self.equity, self.high_water_mark)

    @property
    def daily_pnl(self) -> float:
        """Equity less that of the UTC day's start."""
        return self.equity - self.day_start_equity

    def standing(self, coin_id: str) -> Standing:
        """What a request on `coin_id` meets."""
        return Standing(
            equity=self.equity,
            gross_exposure=self.gross_exposure,
            instrument_exposure=abs(self.exposures.get(coin_id, 0.0)),
            open_risk=self.open_risk,
            open_positions=self.open_positions,
            high_water_mark=self.high_water_mark,
            day_start_equity=self.day_start_equity,
        )


def loss_fraction(equity: float, reference: float) -> float:
    """How far `equity` lies below `reference`, as a fraction of it; 0.0 when it does not."""
    if reference <= 0.0 or equity >= reference:
        return 0.0
    return (reference - equity) / reference
