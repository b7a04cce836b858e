"""How a strategy is computed over history, once and causally. Pure.

`run_pinned` is the only driver: it decides where history starts, live and in backtests alike, so
that a row is computed from the same bytes in both, and what no row may be computed from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np

from collectors.marketdata import duration, from_ms, to_ms
from signals.strategy import Analysis, AnalysisError, BoolArray, Market, MarketError, Strategy

INVALID_BARS_PER_BAR = 50  # one invalid bar in fifty (2%) is the most a lookback may hold


def history_start(open_time: datetime, lookback: int, timeframe: str) -> datetime:
    """The open time of the first bar to load so that the row at `open_time` can be computed."""
    month = open_time.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return month - lookback * duration(timeframe)


def run_pinned(
    strategy: Strategy, market: Market, *, start: datetime, end: datetime | None = None
) -> Analysis:
    """The analysis of the bars that open in [start, end), the last bar of `market` by default.

    Rows of a UTC month are computed from `lookback` bars before the month's first bar to the
    month's end (or the end of the data), so a row never depends on which rows were asked for.
    A row is flat where its bar is invalid, where more than 2% of its lookback is invalid, and
    a bar at which a macro series of the strategy had no released value counts as invalid.
    Raises MarketError when the history is off the grid or begins too late (`history_start` says
    when it must begin), AnalysisError when the strategy returns something impossible.
    """
    parts = list(run_blocks(strategy, market, start=start, end=end))
    return _joined(parts, len(market.instruments))


def run_blocks(
    strategy: Strategy, market: Market, *, start: datetime, end: datetime | None = None
) -> Iterator[Analysis]:
    """The analysis that `run_pinned` gives as its months, in order: whoever writes each away before
    he takes the next needs memory for one month, however long the history. Errors are those of
    `run_pinned`, when the month comes that they are of."""
    _check_grid(market)
    bounds = [to_ms(start), to_ms(end) if end is not None else np.iinfo(np.int64).max]
    row, stop = (int(index) for index in np.searchsorted(market.open_time, bounds))
    while row < stop:
        pin, month_stop = month_rows(strategy, market, row)
        window = market.rows(pin, month_stop)
        analysis = strategy.analyze(window)
        check_analysis(strategy, window, analysis)
        first, last = row - pin, min(stop, month_stop) - pin
        silent = unreliable(_invalid(strategy, window), strategy.lookback)[first:last]
        asked = analysis.rows(first, last)
        yield _flattened(asked, silent | (asked.direction == 0))
        row = month_stop


def restricted(
    analysis: Analysis, *, instruments: Sequence[str], assets: Collection[str]
) -> Analysis:
    """The analysis, flat for all instruments but `assets` (none left out when there are none).

    A strategy sees the whole market and speaks of what it is set to speak of.
    """
    if not assets:
        return analysis
    silent = np.array([coin_id not in assets for coin_id in instruments], dtype=np.bool_)
    return _flattened(analysis, np.broadcast_to(silent, analysis.direction.shape))


def _check_grid(market: Market) -> None:
    step = _step_ms(market.timeframe)
    times = market.open_time
    if len(times) and (np.any(np.diff(times) != step) or times[0] % step):
        raise MarketError(f"the bars are not on the {market.timeframe} grid without gaps")


def _step_ms(timeframe: str) -> int:
    return duration(timeframe) // timedelta(milliseconds=1)


def month_rows(strategy: Strategy, market: Market, row: int) -> tuple[int, int]:
    """The rows [pin, stop) that the month of `row` is computed from. Raises MarketError when the
    market begins too late for that."""
    step = _step_ms(market.timeframe)
    moment = from_ms(int(market.open_time[row]))
    pin_time = history_start(moment, strategy.lookback, market.timeframe)
    pin = (to_ms(pin_time) - int(market.open_time[0])) // step
    if pin < 0:
        first = from_ms(int(market.open_time[0]))
        raise MarketError(f"{strategy.name} needs history from {pin_time}, given from {first}")
    month = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    next_month = (month + timedelta(days=32)).replace(day=1)
    return pin, int(np.searchsorted(market.open_time, to_ms(next_month)))


def _invalid(strategy: Strategy, market: Market) -> BoolArray:
    invalid = ~market.valid
    for series in strategy.macro_series:
        invalid = invalid | ~market.macro_known[series][:, np.newaxis]
    return invalid


def unreliable(invalid: BoolArray, lookback: int) -> BoolArray:
    """Where a row's own bar, or more than 2% of it and its lookback, is invalid (B, K)."""
    if not invalid.any():
        return invalid
    total = np.cumsum(invalid, axis=0, dtype=np.int32)
    within = total.copy()
    within[lookback + 1 :] -= total[: -lookback - 1]
    allowed = (lookback + 1) // INVALID_BARS_PER_BAR
    return invalid | (within > allowed)


def _flattened(analysis: Analysis, flat: BoolArray) -> Analysis:
    return Analysis(
        direction=np.where(flat, np.int8(0), analysis.direction).astype(np.int8, copy=False),
        confidence=np.where(flat, 0.0, analysis.confidence),
        stop_loss=np.where(flat, np.nan, analysis.stop_loss),
        take_profit=np.where(flat, np.nan, analysis.take_profit),
        position_size=np.where(flat, 0.0, analysis.position_size),
        diagnostics=analysis.diagnostics,
    )


def check_analysis(strategy: Strategy, market: Market, analysis: Analysis) -> None:
    """Raises AnalysisError, naming the first bar, for what no analysis of this market may be."""
    shape = market.close.shape
    arrays = {
        name: getattr(analysis, name)
        for name in ("direction", "confidence", "stop_loss", "take_profit", "position_size")
    }
    for name, values in {**arrays, **analysis.diagnostics}.items():
        if values.shape != shape:
            raise AnalysisError(f"{strategy.name}: {name} is {values.shape}, not {shape}")
    active = analysis.direction != 0
    stop, target = analysis.stop_loss, analysis.take_profit
    faults = {
        "direction": active & (analysis.direction != 1) & (analysis.direction != -1),
        "confidence": active & ~((analysis.confidence >= 0.0) & (analysis.confidence <= 1.0)),
        "stop_loss": active & ~(np.isnan(stop) | ((stop > 0.0) & np.isfinite(stop))),
        "take_profit": active & ~(np.isnan(target) | ((target > 0.0) & np.isfinite(target))),
        "position_size": active & ~((analysis.position_size >= 0) & (analysis.position_size <= 1)),
    }
    for name, fault in faults.items():
        if fault.any():
            bar, column = (int(index[0]) for index in np.nonzero(fault))
            value = arrays[name][bar, column]
            moment = from_ms(int(market.open_time[bar]))
            raise AnalysisError(
                f"{strategy.name}: {name} {value} for {market.instruments[column]} at {moment}"
            )


def _joined(parts: Sequence[Analysis], columns: int) -> Analysis:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        empty = np.empty((0, columns))
        return Analysis(
            direction=empty.astype(np.int8),
            confidence=empty,
            stop_loss=empty,
            take_profit=empty,
            position_size=empty,
        )
    return Analysis(
        direction=np.concatenate([part.direction for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
        stop_loss=np.concatenate([part.stop_loss for part in parts]),
        take_profit=np.concatenate([part.take_profit for part in parts]),
        position_size=np.concatenate([part.position_size for part in parts]),
        diagnostics={
            name: np.concatenate([part.diagnostics[name] for part in parts])
            for name in parts[0].diagnostics
        },
    )
