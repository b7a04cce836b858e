"""The trials of a strategy: what is asked of it, and what may not differ. Pure.

A trial asks a strategy for an analysis and compares bits: NaN equals NaN, 0.0 does not equal -0.0.
The first difference ends it as a `Fault` that names the check, the bar and the output.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collectors.marketdata import from_ms, to_ms
from signals.columns import analysis_columns, market_columns
from signals.driver import check_analysis, month_rows, run_pinned
from signals.fresh import MakeStrategy
from signals.strategy import Analysis, AnalysisError, Market, Strategy
from signals.worlds import crowd_of, detached, poisoned, poisons_for, read_only

OUTPUTS = ("direction", "confidence", "stop_loss", "take_profit", "position_size")
FINITE = ("confidence", "position_size")
MOMENTS = 25  # at so many changes of the state the future is poisoned, at most
EVEN = 20  # and at so many bars evenly spread
POISONS_PER_CUT = 3

MEMORY = "remembers earlier calls"
COMPANY = "depends on other instruments, and does not say so (compares)"
Tell = Callable[[int, int], None]


class Fault(Exception):
    """A strategy failed a check: its name, the open time of the first bar (None when all bars are
    meant) and the output that is wrong there."""

    def __init__(self, check: str, bar: datetime | None, output: str) -> None:
        super().__init__(f"{check} {bar} {output}")
        self.check, self.bar, self.output = check, bar, output


@dataclass(kw_only=True)
class Counts:
    """How much was tried."""

    active_rows: int = 0
    prefixes: int = 0
    poisons: int = 0
    driver_rows: int = 0
    stored_cuts: int = 0


@dataclass(kw_only=True)
class Trial:
    """One strategy on trial. `tell` hears how many of how many steps are done; what it raises ends
    the trial and reaches the caller as it is."""

    make: MakeStrategy
    tell: Tell
    steps: int = 0
    done: int = 0
    counts: Counts = field(default_factory=Counts)

    def on_world(self, market: Market) -> None:
        """All checks on a built world, which begins long before its last month. Raises Fault."""
        first = made(self.make)
        whole = kept(analysed(first, market))
        self.counts.active_rows += int((whole.direction != 0).any(axis=1).sum())
        cuts = turning_points(whole)
        bars = len(market.open_time)
        self.steps += bars + len(cuts) * (1 + POISONS_PER_CUT)
        require_same("not deterministic", market, whole, analysed(first, market))
        live = made(self.make)
        for cut in range(1, bars + 1):  # as live: one bar more with every call
            self._prefix(live, market, whole, cut)
        for cut in reversed(cuts):  # of a state that has seen all bars
            self._prefix(first, market, whole, cut)
        misled = made(self.make)  # to a state that sees false futures before the true one
        for number, cut in enumerate(cuts):
            for turn in range(POISONS_PER_CUT):
                self._other_future(misled, market, whole, cut, number * POISONS_PER_CUT + turn)
        self._same(misled, market, market, whole, "depends on later values")
        self._driver_rows(market, whole)
        self._company(first, market, whole)

    def on_history(self, market: Market, rows: Sequence[int]) -> None:
        """As `on_months`, of stored history."""
        for _ in self._at_rows(market, rows):
            self.counts.stored_cuts += 1

    def on_months(self, market: Market, rows: Sequence[int]) -> None:
        """Prefixes and other futures at these rows, each within the bars that the driver would give
        for its month. Raises Fault."""
        for _ in self._at_rows(market, rows):
            pass

    def _at_rows(self, market: Market, rows: Sequence[int]) -> Iterator[int]:
        first, live, misled = (made(self.make) for _ in range(3))
        self.steps += 2 * len(rows)
        span: tuple[int, int] | None = None
        for number, row in enumerate(sorted(rows)):
            if span != (span := month_rows(first, market, row)):
                window = read_only(market.rows(*span))
                whole = kept(analysed(first, window))
            cut = row + 1 - span[0]
            self._prefix(live, window, whole, cut)
            self._other_future(misled, window, whole, cut, number)
            yield row

    def _prefix(self, strategy: Strategy, market: Market, whole: Analysis, cut: int) -> None:
        part = detached(market.rows(0, cut))
        self._same(strategy, part, part, whole, "depends on later bars")
        self.counts.prefixes += 1
        self._step()

    def _other_future(
        self, strategy: Strategy, market: Market, whole: Analysis, cut: int, number: int
    ) -> None:
        kinds = poisons_for(market)
        poison = kinds[number % len(kinds)]
        other = poisoned(market, cut, poison)
        check = f"depends on later values ({poison})"
        self._same(strategy, other, market.rows(0, cut), whole, check, is_tried=True)
        self.counts.poisons += 1
        self._step()

    def _same(
        self,
        strategy: Strategy,
        given: Market,
        shown: Market,
        whole: Analysis,
        check: str,
        *,
        is_tried: bool = False,
    ) -> None:
        """The analysis of what is given is the whole's at the bars shown. A difference that a
        fresh state does not have is what the used one remembers."""
        found = analysed(strategy, given, is_tried=is_tried)
        try:
            require_same(check, shown, whole, found)
        except Fault as fault:
            fresh = analysed(made(self.make), given, is_tried=False)
            if is_same(shown, whole, fresh):
                raise Fault(MEMORY, fault.bar, fault.output) from None
            raise

    def _driver_rows(self, market: Market, whole: Analysis) -> None:
        """Rows of the driver are the same on the whole and on data cut at both ends."""
        strategy, live = made(self.make), made(self.make)
        first = next_month(from_ms(int(market.open_time[strategy.lookback + 1])))
        pinned = driven(strategy, market, start=first)
        offset = int(np.searchsorted(market.open_time, to_ms(first)))
        for row in driver_rows(market, whole, offset):
            begin, _ = month_rows(live, market, row)
            moment = from_ms(int(market.open_time[row]))
            alone = driven(live, detached(market.rows(begin, row + 1)), start=moment)
            expected = pinned.rows(row - offset, row - offset + 1)
            shown = market.rows(row, row + 1)
            require_same("depends on where the data is cut", shown, expected, alone)
            self.counts.driver_rows += 1

    def _company(self, strategy: Strategy, market: Market, whole: Analysis) -> None:
        """What is said of an instrument alone, and among many more, is what is said of it here;
        but of strategies that say that they compare."""
        if strategy.compares:
            return
        every = range(len(market.instruments))
        shown = [(market_columns(market, [column]), [column]) for column in every]
        for given, columns in [*shown, (crowd_of(market), [*every])]:
            try:
                found = analysed(strategy, read_only(given))
            except Fault as fault:
                raise Fault(COMPANY, fault.bar, fault.output) from None
            part = analysis_columns(found, range(len(columns)))
            require_same(COMPANY, market, analysis_columns(whole, columns), part)

    def _step(self) -> None:
        self.done += 1
        self.tell(self.done, self.steps)


def made(make: MakeStrategy) -> Strategy:
    """A strategy in a fresh state. Raises Fault when it cannot be made."""
    try:
        return make()
    except Exception as error:
        raise Fault("cannot be made", None, f"{type(error).__name__}: {error}") from error


def lookback_of(strategy: Strategy) -> int:
    """How many bars it looks back. Raises Fault."""
    with faults_of_strategy():
        return strategy.lookback


def analysed(strategy: Strategy, market: Market, *, is_tried: bool = True) -> Analysis:
    """The analysis of a market, `is_tried` for what no analysis may be. Raises Fault."""
    with faults_of_strategy(), np.errstate(all="ignore"):
        analysis = strategy.analyze(market)
        if is_tried:
            check_analysis(strategy, market, analysis)
            require_finite(market, analysis)
        return analysis


def kept(analysis: Analysis) -> Analysis:
    """A copy of an analysis: a strategy may write its next one into the same arrays."""
    return analysis_columns(analysis, range(analysis.direction.shape[1]))


def driven(strategy: Strategy, market: Market, *, start: datetime) -> Analysis:
    """What the driver makes of it from `start` on. Raises Fault."""
    with faults_of_strategy(), np.errstate(all="ignore"):
        return run_pinned(strategy, market, start=start)


@contextlib.contextmanager
def faults_of_strategy() -> Iterator[None]:
    """Whatever a strategy raises, as a Fault."""
    try:
        yield
    except Fault:
        raise
    except AnalysisError as error:
        raise Fault("impossible output", None, str(error)) from error
    except Exception as error:
        raise Fault("raised", None, f"{type(error).__name__}: {error}"[:500]) from error


def require_finite(market: Market, analysis: Analysis) -> None:
    """Confidence and size are finite at every bar; stop, target and diagnostics are NaN where there
    is none, but never infinite. Raises Fault."""
    arrays = {name: getattr(analysis, name) for name in OUTPUTS[1:]} | dict(analysis.diagnostics)
    for name, values in arrays.items():
        fault = ~np.isfinite(values) if name in FINITE else np.isinf(values)
        if fault.any():
            raise Fault("not finite", _moment(market, int(np.argwhere(fault)[0][0])), name)


def require_same(check: str, market: Market, whole: Analysis, found: Analysis) -> None:
    """Raises Fault at the first bar of the market at which two analyses differ in any bit."""
    bars = len(market.open_time)
    for name, values in _arrays(whole).items():
        part = _arrays(found).get(name)
        if part is None or len(part) < bars:
            raise Fault(check, None, f"{name} has {0 if part is None else len(part)} rows")
        if (bar := first_difference(values[:bars], part[:bars])) is not None:
            raise Fault(check, _moment(market, bar), name)


def is_same(market: Market, whole: Analysis, found: Analysis) -> bool:
    """Whether two analyses are the same at all bars of the market."""
    try:
        require_same("", market, whole, found)
    except Fault:
        return False
    return True


def first_difference(whole: NDArray[Any], part: NDArray[Any]) -> int | None:
    """The first row at which two arrays differ in any bit; all NaN are alike."""
    if whole.shape != part.shape or whole.dtype != part.dtype:
        return 0
    if np.array_equal(_bits(whole), _bits(part)):
        return None
    differs = _bits(whole) != _bits(part)
    if whole.dtype.kind == "f":
        differs &= ~(np.isnan(whole) & np.isnan(part))
    rows = np.flatnonzero(differs.reshape(len(differs), -1).any(axis=1))
    return int(rows[0]) if len(rows) else None


def turning_points(whole: Analysis) -> list[int]:
    """Cuts where a look ahead shows first: before and after changes of the state, at the last bars,
    and some evenly spread. A cut is the number of bars before it."""
    bars = len(whole.direction)
    changes = np.flatnonzero(np.any(np.diff(whole.direction, axis=0) != 0, axis=1)) + 1
    if len(changes) > MOMENTS:
        changes = changes[np.linspace(0, len(changes) - 1, MOMENTS).astype(int)]
    even = np.linspace(2, bars - 3, EVEN).astype(int)
    cuts = {int(cut) for cut in (*changes, *(changes + 1), *even, bars - 2, bars - 1)}
    return sorted(cut for cut in cuts if 0 < cut < bars)


def driver_rows(market: Market, whole: Analysis, offset: int) -> list[int]:
    """Rows from `offset` on: turning points, and the first and last bar of every month."""
    bars = len(market.open_time)
    months = {offset}
    while (row := max(months)) < bars:
        following = next_month(from_ms(int(market.open_time[row])))
        months.add(int(np.searchsorted(market.open_time, to_ms(following))))
    edges = {row - back for row in months for back in (0, 1)}
    rows = edges | {cut for cut in turning_points(whole)} | {bars - 1}
    return sorted(row for row in rows if offset <= row < bars)


def next_month(moment: datetime) -> datetime:
    """The beginning of the month after a moment's."""
    first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


def _arrays(analysis: Analysis) -> dict[str, NDArray[Any]]:
    return {name: getattr(analysis, name) for name in OUTPUTS} | dict(analysis.diagnostics)


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    plain = np.ascontiguousarray(values)
    return plain.view(f"i{plain.itemsize}") if plain.dtype.kind == "f" else plain


def _moment(market: Market, row: int) -> datetime:
    return from_ms(int(market.open_time[row]))
