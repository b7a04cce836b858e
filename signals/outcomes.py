"""What became of a signal, from the candles after it. Pure.

A signal is known at its bar's close and enters at the next bar's open, as a backtest fills it. Two
things are told apart:

- the forward returns, from the entry to the close of the last bar of 1 h, 4 h, 1, 3 and 7 days,
  whatever happens meanwhile;
- the stand, which ends with what comes first: the stop or the take-profit is reached, the same
  strategy's next signal of the instrument enters, or seven days are over.

The stop counts first where a bar spans both levels, and a bar that opens beyond it leaves at its
open. A take-profit is a resting order: it is reached where a bar trades beyond it, and left at its
own price wherever the bar opened. By these rules paper account and backtest fill. A bar built from
price samples has no true high and low and touches nothing. Where a bar is missing that may still
come, nothing is said of the stand behind it. All returns are fractions in the signal's direction,
without costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from signals.strategy import BoolArray, FloatArray

HOUR_MS = 3_600_000
HORIZONS_MS: Mapping[str, int] = {
    "1h": HOUR_MS,
    "4h": 4 * HOUR_MS,
    "1d": 24 * HOUR_MS,
    "3d": 72 * HOUR_MS,
    "7d": 168 * HOUR_MS,
}
LAST_HORIZON_MS = max(HORIZONS_MS.values())

ExitKind = Literal["stop", "target", "state", "horizon"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a signal claimed. `direction` is -1 or 1; levels are prices, None where there is none;
    `entry_ms` is the open time of the bar after the signal's, `end_ms` that of the bar in which
    the next signal enters, None while there is none."""

    direction: int
    stop_loss: float | None
    take_profit: float | None
    entry_ms: int
    end_ms: int | None = None


@dataclass(frozen=True, kw_only=True)
class Path:
    """The bars from the entry on: arrays of N, one element for every closed bar of the grid.

    A bar is `valid`, or lacks a candle and carries the last close. Of those, `is_quiet` ones had
    no trade, so that the close stood; `is_gone` ones nobody has, and nobody will bring. All others
    may still come.
    """

    step_ms: int
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    valid: BoolArray
    sampled: BoolArray
    is_quiet: BoolArray
    is_gone: BoolArray


@dataclass(frozen=True, kw_only=True)
class Fate:
    """How far a signal's fate is known; None is not known (yet, or for good).

    `exit_bar` is the number of the bar, from the entry's, in which the stand ended. `waits_for` is
    the number of the first bar that is wanted next, None when nothing is left to be known;
    `is_knowable` is false where nobody has the bar of the entry.
    """

    entry_price: float | None = None
    returns: Mapping[str, float | None] = field(default_factory=dict)
    exit: ExitKind | None = None
    exit_bar: int | None = None
    exit_price: float | None = None
    result: float | None = None
    best_return: float | None = None
    worst_return: float | None = None
    missing_bars: int = 0
    waits_for: int | None = None
    is_knowable: bool = True

    @property
    def is_hit(self) -> bool | None:
        """Whether the stand ended above its entry, and not by its stop; None while it stands."""
        if self.exit is None or self.result is None:
            return None
        return self.exit != "stop" and self.result > 0.0


def horizon_bars(step_ms: int) -> dict[str, int]:
    """How many bars each horizon has; those that are no whole number of bars are left out."""
    return {name: span // step_ms for name, span in HORIZONS_MS.items() if span % step_ms == 0}


def follow(claim: Claim, path: Path) -> Fate:
    """The fate of a claim as far as the path shows it. The path may be longer than seven days."""
    if len(path.open) == 0:
        return Fate(returns=dict.fromkeys(HORIZONS_MS), waits_for=0)
    if not path.valid[0]:
        may_come = not (path.is_quiet[0] or path.is_gone[0])
        return Fate(
            returns=dict.fromkeys(HORIZONS_MS),
            waits_for=0 if may_come else None,
            is_knowable=may_come,
        )
    entry = float(path.open[0])
    last = LAST_HORIZON_MS // path.step_ms
    pending = np.flatnonzero(~(path.valid | path.is_quiet | path.is_gone)[:last])
    seen = int(pending[0]) if len(pending) else min(len(path.open), last)
    returns, unknown = _forward_returns(claim, path, entry, seen)
    stand = _stand(claim, path, entry, seen, last)
    waiting = [] if stand.exit is not None else [seen]
    waiting += [bars - 1 for bars in unknown]
    return Fate(
        entry_price=entry,
        returns=returns,
        exit=stand.exit,
        exit_bar=stand.exit_bar,
        exit_price=stand.exit_price,
        result=stand.result,
        best_return=stand.best_return,
        worst_return=stand.worst_return,
        missing_bars=stand.missing_bars,
        waits_for=min(waiting, default=None),
    )


def _forward_returns(
    claim: Claim, path: Path, entry: float, seen: int
) -> tuple[dict[str, float | None], list[int]]:
    """The return at each horizon, and the horizons (in bars) whose bar may still come."""
    returns: dict[str, float | None] = dict.fromkeys(HORIZONS_MS)
    unknown = []
    for name, bars in horizon_bars(path.step_ms).items():
        last = bars - 1
        if last < len(path.open) and (path.valid[last] or (path.is_quiet[last] and last < seen)):
            returns[name] = _return(claim, entry, float(path.close[last]))
        elif last >= len(path.open) or not path.is_gone[last]:
            unknown.append(bars)
    return returns, unknown


def _stand(claim: Claim, path: Path, entry: float, seen: int, last: int) -> Fate:
    """How the stand went over the first `seen` bars; it ends at bar `last` at the latest."""
    end = last
    if claim.end_ms is not None:
        end = min(last, (claim.end_ms - claim.entry_ms) // path.step_ms)
    bars = slice(0, min(seen, end))
    touched = _first_touch(claim, path, bars)
    kind: ExitKind | None = None
    exit_bar = exit_price = None
    if touched is not None:
        kind, exit_bar, exit_price = touched
    elif end < last and seen > end:
        # Where the bar itself is missing for good, the close before it stands in for its open.
        kind, exit_bar, exit_price = "state", end, float(path.open[end])
    elif end == last and seen == last:
        kind, exit_bar, exit_price = "horizon", last, float(path.close[last - 1])
    whole = slice(0, bars.stop if exit_bar is None else min(exit_bar, bars.stop))
    best, worst = _excursions(claim, path, entry, whole)
    result = None
    if exit_price is not None:
        result = _return(claim, entry, exit_price)
        best, worst = max(best, result), min(worst, result)
    return Fate(
        exit=kind,
        exit_bar=exit_bar,
        exit_price=exit_price,
        result=result,
        best_return=best,
        worst_return=worst,
        missing_bars=int(path.is_gone[whole].sum()),
    )


def _first_touch(claim: Claim, path: Path, bars: slice) -> tuple[ExitKind, int, float] | None:
    """The first bar in which a level is touched, which one, and at what price; None without."""
    side = claim.direction
    stop = np.nan if claim.stop_loss is None else claim.stop_loss
    target = np.nan if claim.take_profit is None else claim.take_profit
    decides = path.valid[bars] & ~path.sampled[bars]
    opens = path.open[bars]
    worst, best = (path.low, path.high) if side > 0 else (path.high, path.low)
    is_stopped = decides & (side * (worst[bars] - stop) <= 0.0)
    is_reached = decides & (side * (best[bars] - target) > 0.0)
    touches = np.flatnonzero(is_stopped | is_reached)
    if len(touches) == 0:
        return None
    bar = int(touches[0])
    opened = float(opens[bar])
    if side * (opened - stop) <= 0.0:
        return "stop", bar, opened
    if side * (opened - target) > 0.0:
        return "target", bar, float(target)
    return ("stop", bar, float(stop)) if is_stopped[bar] else ("target", bar, float(target))


def _excursions(claim: Claim, path: Path, entry: float, bars: slice) -> tuple[float, float]:
    """The largest favourable (at least 0) and adverse (at most 0) return over whole bars."""
    is_ranged = path.valid[bars] & ~path.sampled[bars]
    high = np.where(is_ranged, path.high[bars], path.close[bars])
    low = np.where(is_ranged, path.low[bars], path.close[bars])
    extremes = [
        _return(claim, entry, float(price))
        for price in (high.max(initial=entry), low.min(initial=entry))
    ]
    return max(*extremes, 0.0), min(*extremes, 0.0)


def _return(claim: Claim, entry: float, price: float) -> float:
    return claim.direction * (price / entry - 1.0)
