"""What risk needs to know of an account's holdings, as a value. Pure.

`trading.selectors` builds a `Portfolio` from the books, the backtest from its own state. Amounts
are float quote units: the exact books stay in trading, risk only compares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from risk.facts import Surroundings, pair_correlation


class Record(NamedTuple):
    """How a strategy's closed trades ended, after costs; `won` and `lost` are positive sums."""

    trades: int
    wins: int
    won: float
    lost: float


NO_RECORD = Record(0, 0, 0.0, 0.0)


class Standing(NamedTuple):
    """The portfolio as one request on one instrument meets it; scalars only, so it compiles.

    Quote units. `instrument_exposure` and `sector_exposure` are absolute notionals already held
    there; `open_risk` what would be lost if every open position left at its stop. `correlation` is
    the highest with another held instrument, signed by both directions: 0.0 when nothing else is
    held. `held_risk` is what the average other position moves in a day. The last four are the
    record of the strategy that asks. NaN is unknown.
    """

    equity: float
    gross_exposure: float
    instrument_exposure: float
    sector_exposure: float
    open_risk: float
    open_positions: int
    high_water_mark: float
    day_start_equity: float
    volatility_24h: float
    daily_volatility: float
    quote_volume_24h: float
    correlation: float
    held_risk: float
    trades: int
    wins: int
    won: float
    lost: float


@dataclass(frozen=True, kw_only=True)
class Portfolio:
    """An account marked at one moment. Quote units; `exposures` are signed notionals by coin id.

    `record` is that of the strategy whose request is judged.
    """

    equity: float
    cash: float
    open_risk: float
    high_water_mark: float
    day_start_equity: float
    exposures: Mapping[str, float] = field(default_factory=dict)
    record: Record = NO_RECORD

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

    def standing(self, coin_id: str, direction: int, surroundings: Surroundings) -> Standing:
        """What a request to go `direction` (1 or -1) in `coin_id` meets."""
        facts = surroundings.of(coin_id)
        return Standing(
            equity=self.equity,
            gross_exposure=self.gross_exposure,
            instrument_exposure=abs(self.exposures.get(coin_id, 0.0)),
            sector_exposure=self._sector_exposure(coin_id, surroundings.sectors),
            open_risk=self.open_risk,
            open_positions=self.open_positions,
            high_water_mark=self.high_water_mark,
            day_start_equity=self.day_start_equity,
            volatility_24h=facts.volatility_24h,
            daily_volatility=facts.daily_volatility,
            quote_volume_24h=facts.quote_volume_24h,
            correlation=self._correlation(coin_id, direction, surroundings),
            held_risk=self._held_risk(coin_id, surroundings),
            trades=self.record.trades,
            wins=self.record.wins,
            won=self.record.won,
            lost=self.record.lost,
        )

    def _others(self, coin_id: str) -> list[tuple[str, float]]:
        return sorted(
            (held, value)
            for held, value in self.exposures.items()
            if held != coin_id and value != 0.0
        )

    def _sector_exposure(self, coin_id: str, sectors: Mapping[str, str]) -> float:
        """What is held in the instrument's sector; an instrument without one is a sector alone."""
        sector = sectors.get(coin_id)
        held = abs(self.exposures.get(coin_id, 0.0))
        for other, value in self._others(coin_id):
            if sector is not None and sectors.get(other) == sector:
                held += abs(value)
        return held

    def _correlation(self, coin_id: str, direction: int, surroundings: Surroundings) -> float:
        others = self._others(coin_id)
        returns = surroundings.of(coin_id).daily_returns
        highest = math.nan if others else 0.0
        for held, value in others:
            found = pair_correlation(returns, surroundings.of(held).daily_returns)
            signed = found * direction * (1.0 if value > 0.0 else -1.0)
            if not math.isnan(signed) and not signed <= highest:
                highest = signed
        return highest

    def _held_risk(self, coin_id: str, surroundings: Surroundings) -> float:
        count, total = 0, 0.0
        for held, value in self._others(coin_id):
            risk = abs(value) * surroundings.of(held).daily_volatility
            if not math.isnan(risk):
                count += 1
                total += risk
        return total / count if count else math.nan


def loss_fraction(equity: float, reference: float) -> float:
    """How far `equity` lies below `reference`, as a fraction of it; 0.0 when it does not."""
    if reference <= 0.0 or equity >= reference:
        return 0.0
    return (reference - equity) / reference
