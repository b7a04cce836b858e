"""What a backtest trades: bars with the wanted state at each, and the terms of the run. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from risk.facts import HOUR_MS, Hours, hourly_volatility, traded_volume
from risk.limits import Limits
from trading.orders import MAINTENANCE_PPM, SLIPPAGE_BPS, Grid
from trading.slippage import expected_slippage_bps

HALF_SPREAD_BPS = 1.0


class Settlement(NamedTuple):
    """One funding settlement of an instrument: longs pay shorts `rate` of the notional at
    `mark_price` (quote units, NaN where not said), at `time` (epoch milliseconds)."""

    time: int
    rate: float
    mark_price: float


@dataclass(frozen=True, kw_only=True)
class Tape:
    """B closed bars by K instruments with the wanted state at each close.

    `valid` says where a bar is real (it can be filled at its open), `has_range` where its high and
    low are true (a stop may be decided on it). NaN is "none" in `stop_loss`, `take_profit` and
    `position_size`. `hours` are the hourly bars of the same instruments that risk reads the market
    from, beginning `risk.facts.LEAD_HOURS` before the first bar.
    """

    instruments: tuple[str, ...]
    open_time: NDArray[np.int64]  # (B,) epoch milliseconds
    close_time: NDArray[np.int64]  # (B,)
    open: NDArray[np.float64]  # (B, K)
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    valid: NDArray[np.bool_]
    has_range: NDArray[np.bool_]
    changed: NDArray[np.bool_]  # where there is a signal
    direction: NDArray[np.int8]
    confidence: NDArray[np.float64]
    stop_loss: NDArray[np.float64]
    take_profit: NDArray[np.float64]
    position_size: NDArray[np.float64]
    hours: Hours
    funding: Mapping[str, Sequence[Settlement]] = field(default_factory=dict)  # by coin id


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The grid on which an instrument trades in [since, until), epoch milliseconds."""

    since: int
    until: int
    grid: Grid
    min_notional: float


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the run is traded under. An instrument trades only while it is listed."""

    strategy: str
    initial_capital: int  # money units
    limits: Limits
    listings: Mapping[str, Sequence[Listed]]
    fee_ppm: int  # of what takes
    maker_fee_ppm: int  # of a target, which rests
    half_spread_bps: float = HALF_SPREAD_BPS
    slippage_bps: float = SLIPPAGE_BPS
    sectors: Mapping[str, str] = field(default_factory=dict)
    maintenance_ppm: int = MAINTENANCE_PPM["binance"]  # what equity must keep of a notional

    def listed(self, coin_id: str, time: int) -> Listed | None:
        """The instrument's listing at a moment."""
        for listed in self.listings.get(coin_id, ()):
            if listed.since <= time < listed.until:
                return listed
        return None


def changed_rows(direction: NDArray[np.int8], stop_loss: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a row differs from the one before: in direction, or in its stop while in a position.

    The row before the first is flat.
    """
    before = np.zeros_like(direction)
    before[1:] = direction[:-1]
    stop_before = np.full_like(stop_loss, math.nan)
    stop_before[1:] = stop_loss[:-1]
    same_stop = (stop_loss == stop_before) | (np.isnan(stop_loss) & np.isnan(stop_before))
    changed: NDArray[np.bool_] = (direction != before) | ((direction != 0) & ~same_stop)
    return changed


def largest_jumps(tape: Tape) -> list[float]:
    """(B - 1,): by how much, as a fraction, the price of any instrument moved at most from a bar's
    close to the next open, where both are real."""
    if len(tape.close) < 2:
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        moves = np.abs(tape.open[1:] / tape.close[:-1] - 1.0)
    known: NDArray[np.float64] = np.where(tape.valid[1:], moves, 0.0).max(axis=1, initial=0.0)
    jumps: list[float] = np.where(np.isnan(known), math.inf, known).tolist()
    return jumps


def slippage_at(
    tape: Tape, terms: Terms, column: int, time: int, grid: Grid, steps: int, price: float
) -> float:
    """What taking `steps` of an instrument at a moment (epoch ms) costs beyond a best price, in
    bps: by the hours that were over then, as the paper account pays by them."""
    coin_id = tape.instruments[column]
    volatility = day_volume = math.nan
    if coin_id in tape.hours.coin_ids:
        place = tape.hours.coin_ids.index(coin_id)
        stop = (time - tape.hours.first_open) // HOUR_MS
        volatility = hourly_volatility(tape.hours.close[:, place], tape.hours.valid[:, place], stop)
        day_volume = float(traded_volume(tape.hours.quote_volume[:, place], stop))
    notional = grid.quantity(steps) * price
    return expected_slippage_bps(terms.slippage_bps, volatility, notional, day_volume)
