"""The markets that strategies are tried on: a built world, and worlds with another future. Pure.

All arrays are read-only: a strategy that writes into what it is given would change what the others
see, and is found out here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collectors.marketdata import duration, to_ms
from signals.columns import market_columns
from signals.strategy import BoolArray, FloatArray, IntArray, Market

SEED = 20_210_519
WORLD_MONTH = datetime(2021, 9, 1, tzinfo=UTC)  # its first bar opens the last third of the world
INSTRUMENTS = ("bitcoin", "ethereum", "ripple", "binancecoin")
FIRST_PRICES = (6e4, 3e-8, 1.2, 9e6)
MOST_INSTRUMENTS = 8
CROWD = 4  # times the instruments of a world
DAY_MS = 86_400_000
HOLES = 0.002  # of all bars; more than that would leave a strategy with a long lookback no row
SECOND_SOURCE_DAYS = 13  # every so many days another source measures the volume


def build_world(
    *,
    timeframe: str,
    bars: int,
    macro_series: Sequence[str],
    instruments: Sequence[str] = INSTRUMENTS,
) -> Market:
    """A seeded market with calm and fearful regimes, crashes, holes and a constant column.

    Macro values step once a day, jump with the fear of the regime and pull the prices along or
    against them, so that rules on levels, falls and correlations all have something to say; they
    are released a day later. Each series has values of its own. At least four instruments, at most
    eight are taken.
    """
    names = tuple(dict.fromkeys((*INSTRUMENTS, *instruments)))[:MOST_INSTRUMENTS]
    rng = np.random.default_rng(SEED)
    count = len(names)
    step = duration(timeframe)
    per_day = max(1, timedelta(days=1) // step)
    days = np.arange(bars) // per_day
    fearful = (days // 9 % 2)[:, np.newaxis]
    macro = 18.0 + 12.0 * fearful[:, 0] + 2.0 * rng.normal(size=int(days[-1]) + 1)[days]
    close, valid = _closes(rng, days=days, fearful=fearful, macro=macro, count=count)
    opened = np.vstack([close[:1], close[:-1]])
    reach = np.abs(rng.normal(size=(bars, count))) * 0.002 * valid
    released = macro[np.maximum(np.arange(bars) - per_day, 0)]
    open_time = _grid(bars, step)
    observed = open_time[0] // DAY_MS + np.maximum(days - 1, 0)
    source = np.where(days % SECOND_SOURCE_DAYS == 0, 2, 1)[:, np.newaxis]
    return read_only(
        Market(
            timeframe=timeframe,
            instruments=names,
            open_time=open_time,
            open=opened,
            high=np.maximum(opened, close) * (1.0 + reach),
            low=np.minimum(opened, close) * (1.0 - reach),
            close=close,
            volume=rng.lognormal(3.0, 1.0, (bars, count)) * valid,
            volume_source=(source * valid).astype(np.int8),
            valid=valid,
            macro={name: released + 0.5 * index for index, name in enumerate(macro_series)},
            macro_known={name: np.arange(bars) >= per_day for name in macro_series},
            macro_day={name: observed.copy() for name in macro_series},
        )
    )


def _closes(
    rng: np.random.Generator, *, days: IntArray, fearful: IntArray, macro: FloatArray, count: int
) -> tuple[FloatArray, BoolArray]:
    bars = len(days)
    news = np.diff(np.log(macro), prepend=np.log(macro[0]))[:, np.newaxis]
    pull = np.where(days // 40 % 2 == 0, -0.3, 0.3)[:, np.newaxis] * np.linspace(0.3, 1.0, count)
    noise = rng.normal(size=(bars, count)) * 0.003 * (1.0 + fearful)
    returns = noise + pull * news + 0.0008 * (1 - 2 * fearful)
    returns[:, -1] = np.where(np.arange(bars) < bars // 3, 0.0, returns[:, -1])
    firsts = np.resize(FIRST_PRICES, count)
    close = firsts * np.exp(np.cumsum(returns, axis=0))
    valid = rng.random((bars, count)) >= HOLES
    for bar in range(1, bars):
        close[bar] = np.where(valid[bar], close[bar], close[bar - 1])
    return close, valid


def _grid(bars: int, step: timedelta) -> IntArray:
    step_ms = step // timedelta(milliseconds=1)
    month_row = bars - bars // 3
    return to_ms(WORLD_MONTH) + step_ms * np.arange(-month_row, bars - month_row, dtype=np.int64)


def detached(market: Market) -> Market:
    """The same market in memory of its own: a view would lead to the bars that it leaves out."""

    def copied(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: array.copy() for name, array in value.items()}
        return value.copy() if isinstance(value, np.ndarray) else value

    return read_only(Market(**{name: copied(value) for name, value in vars(market).items()}))


def crowd_of(market: Market) -> Market:
    """The market, and behind its instruments as many more as make a crowd."""
    count = len(market.instruments)
    crowd = market_columns(market, [*range(count)] * CROWD)
    strangers = [f"{name}-{number}" for number, name in enumerate(crowd.instruments[count:])]
    return dataclasses.replace(crowd, instruments=(*market.instruments, *strangers))


def read_only(market: Market) -> Market:
    """The same market; its arrays refuse to be written to from now on."""
    arrays = [
        value
        for each in dataclasses.fields(market)
        if isinstance(value := getattr(market, each.name), np.ndarray)
    ]
    by_series = (market.macro, market.macro_known, market.macro_day)
    for array in (*arrays, *(array for each in by_series for array in each.values())):
        array.flags.writeable = False
    return market


@dataclass(frozen=True, kw_only=True)
class Poison:
    """What is done to every bar, or every macro value, after a cut. `scale` 0.0 leaves the values
    alone; `flips` turns what is valid or known into its opposite."""

    scale: float
    flips: bool
    bars: bool
    macro: bool

    def __str__(self) -> str:
        parts = [
            name for name, is_meant in (("bars", self.bars), ("macro", self.macro)) if is_meant
        ]
        kind = f"x {self.scale:g}" if self.scale else "flags flipped"
        return f"{' and '.join(parts)} {kind}"


POISONS = tuple(
    Poison(scale=scale, flips=flips, bars=bars, macro=macro)
    for scale, flips in ((40.0, False), (1e-4, False), (40.0, True), (0.0, True))
    for bars, macro in ((True, True), (True, False), (False, True))
)


def poisoned(market: Market, cut: int, poison: Poison) -> Market:
    """The market with what `poison` means done to every bar from `cut` on.

    Prices stay possible (the low lowest, the high highest), volumes grow or shrink by much more,
    and a bar that becomes invalid has no volume.
    """

    def scaled(values: FloatArray, by: float) -> FloatArray:
        if not poison.scale:
            return values
        changed = values.copy()
        changed[cut:] *= poison.scale * by
        return changed

    def flipped(flags: BoolArray) -> BoolArray:
        changed = flags.copy()
        changed[cut:] ^= poison.flips
        return changed

    def moved(days: IntArray) -> IntArray:
        changed = days.copy()
        changed[cut:] += len(days) - np.arange(cut, len(days))
        return changed

    changed = market
    if poison.bars:
        valid = flipped(market.valid)
        changed = dataclasses.replace(
            changed,
            open=scaled(market.open, 1.2),
            high=scaled(market.high, 2.2),
            low=scaled(market.low, 0.5),
            close=scaled(market.close, 1.0),
            volume=_masked(scaled(market.volume, 25.0), valid, cut),
            volume_source=_masked(market.volume_source, valid, cut),
            valid=valid,
        )
    if poison.macro:
        changed = dataclasses.replace(
            changed,
            macro={name: scaled(values, 0.1) for name, values in market.macro.items()},
            macro_known={name: flipped(known) for name, known in market.macro_known.items()},
            macro_day={name: moved(days) for name, days in market.macro_day.items()},
        )
    return read_only(changed)


def _masked(values: NDArray[Any], valid: BoolArray, cut: int) -> NDArray[Any]:
    masked = values.copy()
    masked[cut:] *= valid[cut:]
    return masked


def poisons_for(market: Market) -> Sequence[Poison]:
    """The poisons that change anything of this market."""
    return [each for each in POISONS if each.bars or market.macro]
