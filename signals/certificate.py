"""Whether a strategy looks ahead, or remembers: its analysis is tried, and every try counted. Pure.

A certificate covers what a strategy is given as arrays: candles and macro values. What it reads by
itself (a file, the network, the time) shows here only if its results differ between two tries.

On a built world: its rows do not change when later bars are cut off (after every single bar) or
replaced with extreme values, the driver gives a row the same bits on data cut at both ends as on
the whole, equal input gives equal output, in a state of its code that has seen nothing, everything,
or false futures, an instrument is spoken of alike alone and in a crowd (unless the strategy says
that it compares), and what it says is possible and finite. On a world as long as the driver's
windows, where the first is shorter, and on stored history: rows at some cuts do not change when
later bars are cut off or replaced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from collectors.marketdata import duration, from_ms, to_ms
from signals.codehash import code_hash
from signals.driver import month_rows
from signals.fresh import MakeStrategy
from signals.strategy import Market, MarketError, Strategy
from signals.trials import Fault, Tell, Trial, lookback_of, next_month
from signals.worlds import INSTRUMENTS, build_world

LEAST_BARS = 400
STORED_CUTS = 100
MONTH_CUTS = 12
LONGEST_MONTH = timedelta(days=31)
COVERS = "what is given as arrays: candles and macro values"


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The result. `failed_check` is empty when all passed, else `failing_bar` is the open time
    of the first bar that changed and `failing_output` what changed.

    Tried were `bars` of a built world, `active_rows` of them not flat (without any, little was
    tried), each as the end of a prefix; `poisons` false futures, `driver_rows` rows cut at both
    ends, and `stored_cuts` cuts of stored history (0 where not enough is stored).
    """

    strategy: str
    code_hash: str
    seed: str = ""  # what the cuts of stored history follow from, with the hash
    bars: int = 0
    active_rows: int = 0
    prefixes: int = 0
    poisons: int = 0
    driver_rows: int = 0
    stored_cuts: int = 0
    failed_check: str = ""
    failing_bar: datetime | None = None
    failing_output: str = ""

    @property
    def is_passed(self) -> bool:
        """True when the strategy may be enabled."""
        return not self.failed_check

    def as_json(self) -> dict[str, Any]:
        """The certificate for programs."""
        bar = self.failing_bar
        return {
            **dataclasses.asdict(self),
            "is_passed": self.is_passed,
            "failing_bar": bar.isoformat() if bar else None,
            "covers": COVERS,
        }

    def __str__(self) -> str:
        if not self.is_passed:
            where = f" at {self.failing_bar:%Y-%m-%d %H:%M}" if self.failing_bar else ""
            return f"{self.strategy}: {self.failed_check}{where} ({self.failing_output})"
        stored = f"{self.stored_cuts} cuts" if self.stored_cuts else "no cut"
        return (
            f"{self.strategy}: passed on {self.bars} bars ({self.active_rows} active), "
            f"{self.prefixes} prefixes, {self.poisons} false futures, {self.driver_rows} rows of "
            f"the driver, {stored} of stored history"
        )


def certify(
    make: MakeStrategy,
    *,
    instruments: Sequence[str] = INSTRUMENTS,
    stored: Market | None = None,
    seed: str = "",
    tell: Tell = lambda done, steps: None,
) -> Certificate:
    """Try the strategy that `make` makes, each in a fresh state, on the built world and on `stored`
    history at cuts that follow from its hash and `seed`.

    `instruments` are coin ids that the world has to have. `tell` hears how many of how many steps
    are done. A fault of the strategy's own is in the certificate; only what `tell` raises, or
    making the strategy for the first time, is raised.
    """
    strategy = make()
    result = Certificate(strategy=strategy.name, code_hash=code_hash(strategy), seed=seed)
    trial = Trial(make=make, tell=tell)
    try:
        lookback = lookback_of(strategy)
        bars = max(3 * lookback, LEAST_BARS)
        result = dataclasses.replace(result, bars=bars)
        trial.on_world(_world(strategy, bars, instruments))
        month = LONGEST_MONTH // duration(strategy.timeframe)
        if bars < lookback + month:  # the driver gives more at once than was tried by now
            longer = _world(strategy, 3 * month, instruments)
            august = np.linspace(month, 2 * month - 1, MONTH_CUTS).astype(int)
            trial.on_months(longer, august.tolist())
        if stored is not None:
            rows = seeded_rows(strategy, stored, seed=f"{result.code_hash}{seed}")
            trial.on_history(stored, rows)
    except Fault as fault:
        result = dataclasses.replace(
            result,
            failed_check=fault.check,
            failing_bar=fault.bar,
            failing_output=fault.output,
        )
    return dataclasses.replace(result, **dataclasses.asdict(trial.counts))


def _world(strategy: Strategy, bars: int, instruments: Sequence[str]) -> Market:
    return build_world(
        timeframe=strategy.timeframe,
        bars=bars,
        macro_series=strategy.macro_series,
        instruments=instruments,
    )


def seeded_rows(strategy: Strategy, market: Market, *, seed: str) -> list[int]:
    """Up to 100 rows of stored history that can be computed; the same for the same seed."""
    first = _first_row(strategy, market)
    count = min(STORED_CUTS, len(market.open_time) - first)
    rng = np.random.default_rng(list(seed.encode()))
    chosen = rng.choice(np.arange(first, len(market.open_time)), size=max(count, 0), replace=False)
    return sorted(int(row) for row in chosen)


def _first_row(strategy: Strategy, market: Market) -> int:
    """The first row whose month the market has all bars for; their number when there is none."""
    row = 0
    while row < len(market.open_time):
        try:
            month_rows(strategy, market, row)
        except MarketError:
            following = next_month(from_ms(int(market.open_time[row])))
            row = int(np.searchsorted(market.open_time, to_ms(following)))
        else:
            break
    return row
