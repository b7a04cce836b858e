"""Whether a strategy looks ahead: its analysis is tried on a built world. Pure.

The certificate covers what a strategy is given as arrays: candles and macro values. It cannot see
a strategy that reads files or remembers between calls other than by its results differing.

Checks, in this order: the same input gives the same output, the outputs are possible (`run_pinned`
checks each row), the driver gives a row the same bits on data cut at both ends as on the whole,
and rows do not change when later bars are cut off (prefix-invariance) or replaced by extreme
values (poisoning).
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from collectors.marketdata import duration, from_ms, to_ms
from signals import driver, indicators, parameters
from signals import strategy as contract
from signals.driver import history_start, run_pinned
from signals.strategy import Analysis, Market, Strategy, StrategyError

SEED = 20_210_519
WORLD_MONTH = datetime(2021, 9, 1, tzinfo=UTC)  # its first bar opens the last third of the world
INSTRUMENTS = ("alpha", "beta", "gamma", "delta")
MOMENT_CUTS = 12
EVEN_CUTS = 8
OUTPUTS = ("direction", "confidence", "stop_loss", "take_profit", "position_size")


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The result. `failed_check` is empty when all passed, else `failing_bar` is the open time
    of the first bar that changed and `failing_output` what changed."""

    strategy: str
    code_hash: str
    bars: int
    active_rows: int
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
        }

    def __str__(self) -> str:
        if self.is_passed:
            return f"{self.strategy}: passed on {self.bars} bars, {self.active_rows} active rows"
        where = f" at {self.failing_bar:%Y-%m-%d %H:%M}" if self.failing_bar else ""
        return f"{self.strategy}: {self.failed_check}{where} ({self.failing_output})"


class _Failure(Exception):
    """A check found a difference."""

    def __init__(self, check: str, bar: datetime | None, output: str) -> None:
        super().__init__(check)
        self.check, self.bar, self.output = check, bar, output


def certify(strategy: Strategy) -> Certificate:
    """Try a strategy on the built world. Never raises for a fault of the strategy's own."""
    market = build_world(
        timeframe=strategy.timeframe,
        bars=max(3 * strategy.lookback, 400),
        macro_series=strategy.macro_series,
    )
    result = Certificate(
        strategy=strategy.name,
        code_hash=code_hash(strategy),
        bars=len(market.open_time),
        active_rows=0,
    )
    try:
        whole = strategy.analyze(market)
        _compare("not deterministic", market, whole, strategy.analyze(market))
        _check_driver(strategy, market)
        for cut in _cuts(market, whole):
            prefix = strategy.analyze(market.rows(0, cut))
            _compare("depends on later bars", market, whole, prefix, rows=cut)
            poisoned = strategy.analyze(_poisoned(market, cut))
            _compare("depends on later values", market, whole, poisoned, rows=cut)
    except _Failure as failure:
        return dataclasses.replace(
            result,
            failed_check=failure.check,
            failing_bar=failure.bar,
            failing_output=failure.output,
        )
    except StrategyError as error:
        return dataclasses.replace(
            result, failed_check="impossible output", failing_output=str(error)
        )
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return dataclasses.replace(result, failed_check="raised", failing_output=text)
    return dataclasses.replace(result, active_rows=int((whole.direction != 0).any(axis=1).sum()))


def code_hash(strategy: Strategy) -> str:
    """SHA-256 of the strategy's module, what it is computed with, and its parameters."""
    modules = (sys.modules[type(strategy).__module__], contract, driver, indicators, parameters)
    digest = hashlib.sha256()
    for module in modules:
        digest.update(_source(module).encode())
    values = json.dumps(dict(strategy.get_parameters()), sort_keys=True)
    digest.update(f"{strategy.name}:{values}".encode())
    return digest.hexdigest()


@cache
def _source(module: ModuleType) -> str:
    return inspect.getsource(module)


def build_world(*, timeframe: str, bars: int, macro_series: tuple[str, ...]) -> Market:
    """A seeded market with calm and fearful regimes, crashes, holes and a constant column.

    Macro values step once a day, jump with the fear of the regime and pull the prices along or
    against them, so that rules on levels, falls and correlations all have something to say.
    """
    rng = np.random.default_rng(SEED)
    count = len(INSTRUMENTS)
    step = duration(timeframe)
    per_day = max(1, timedelta(days=1) // step)
    days = np.arange(bars) // per_day
    fearful = (days // 9 % 2)[:, np.newaxis]
    macro = 18.0 + 12.0 * fearful[:, 0] + 2.0 * rng.normal(size=int(days[-1]) + 1)[days]
    news = np.diff(np.log(macro), prepend=np.log(macro[0]))[:, np.newaxis]
    pull = np.where(days // 40 % 2 == 0, -0.3, 0.3)[:, np.newaxis] * np.linspace(0.3, 1.0, count)
    noise = rng.normal(size=(bars, count)) * 0.003 * (1.0 + fearful)
    returns = noise + pull * news + 0.0008 * (1 - 2 * fearful)
    returns[:, -1] = np.where(np.arange(bars) < bars // 3, 0.0, returns[:, -1])
    close = np.array([6e4, 1.2, 3e-3, 40.0]) * np.exp(np.cumsum(returns, axis=0))
    valid = rng.random((bars, count)) > 0.002
    for bar in range(1, bars):
        close[bar] = np.where(valid[bar], close[bar], close[bar - 1])
    opened = np.vstack([close[:1], close[:-1]])
    reach = np.abs(rng.normal(size=(bars, count))) * 0.002 * valid
    return Market(
        timeframe=timeframe,
        instruments=INSTRUMENTS,
        open_time=_grid(bars, step),
        open=opened,
        high=np.maximum(opened, close) * (1.0 + reach),
        low=np.minimum(opened, close) * (1.0 - reach),
        close=close,
        volume=rng.lognormal(3.0, 1.0, (bars, count)) * valid,
        volume_source=valid.astype(np.int8),
        valid=valid,
        macro={name: macro.copy() for name in macro_series},
        macro_known={name: np.arange(bars) >= per_day for name in macro_series},
    )


def _grid(bars: int, step: timedelta) -> contract.IntArray:
    step_ms = step // timedelta(milliseconds=1)
    month_row = bars - bars // 3
    return to_ms(WORLD_MONTH) + step_ms * np.arange(-month_row, bars - month_row, dtype=np.int64)


def _cuts(market: Market, whole: Analysis) -> list[int]:
    """Prefix lengths: those that end just before the state changes, where a look ahead shows
    first, and some evenly spread over the world."""
    changes = np.flatnonzero(np.any(np.diff(whole.direction, axis=0) != 0, axis=1)) + 1
    if len(changes) > MOMENT_CUTS:
        changes = changes[np.linspace(0, len(changes) - 1, MOMENT_CUTS).astype(int)]
    even = np.linspace(2, len(market.open_time) - 1, EVEN_CUTS).astype(int)
    return sorted({int(cut) for cut in (*changes, *even)})


def _poisoned(market: Market, cut: int) -> Market:
    """The market with every value from bar `cut` on replaced by an extreme one."""

    def poison(values: contract.FloatArray, factor: float) -> contract.FloatArray:
        spoiled = values.copy()
        spoiled[cut:] *= factor
        return spoiled

    return dataclasses.replace(
        market,
        open=poison(market.open, 50.0),
        high=poison(market.high, 90.0),
        low=poison(market.low, 20.0),
        close=poison(market.close, 40.0),
        volume=poison(market.volume, 1000.0),
        macro={name: poison(values, 5.0) for name, values in market.macro.items()},
    )


def _check_driver(strategy: Strategy, market: Market) -> None:
    """Rows of the driver are the same on the whole and on data cut at both ends."""
    start = from_ms(int(market.open_time[strategy.lookback + 1]))
    first = (start.replace(day=1, hour=0, minute=0) + timedelta(days=32)).replace(day=1)
    whole = run_pinned(strategy, market, start=first)
    offset = int(np.searchsorted(market.open_time, to_ms(first)))
    for row in _driver_rows(whole):
        moment = from_ms(int(market.open_time[offset + row]))
        since = history_start(moment, strategy.lookback, strategy.timeframe)
        begin = int(np.searchsorted(market.open_time, to_ms(since)))
        part = market.rows(begin, offset + row + 1)
        alone = run_pinned(strategy, part, start=moment)
        expected = whole.rows(row, row + 1)
        shown = market.rows(offset + row, offset + row + 1)
        _compare("depends on where the data is cut", shown, expected, alone)


def _driver_rows(whole: Analysis) -> Iterator[int]:
    rows = len(whole.direction)
    return (int(row) for row in np.unique(np.linspace(0, rows - 1, EVEN_CUTS).astype(int)))


def _compare(
    check: str, market: Market, expected: Analysis, found: Analysis, *, rows: int | None = None
) -> None:
    """Raise _Failure at the first bar at which two analyses differ in any bit."""
    stop = len(market.open_time) if rows is None else rows
    pairs = [(name, getattr(expected, name), getattr(found, name)) for name in OUTPUTS]
    pairs += [
        (name, values, found.diagnostics.get(name, np.empty(0)))
        for name, values in expected.diagnostics.items()
    ]
    for name, whole, part in pairs:
        if len(part) < stop:
            raise _Failure(check, None, f"{name} has {len(part)} rows, not {stop}")
        same = (whole[:stop] == part[:stop]) | (
            (whole[:stop] != whole[:stop]) & (part[:stop] != part[:stop])
        )
        if not same.all():
            bar = int(np.argwhere(~same)[0][0])
            raise _Failure(check, from_ms(int(market.open_time[bar])), name)
