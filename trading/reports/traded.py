"""The most traded instruments of a record: their candles and the trades that were made on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collectors.marketdata import TIMEFRAMES, CandleMatrix, floor_time, from_ms
from collectors.selectors import candle_history
from trading.performance import RoundTrip
from trading.reports.content import Record
from trading.reports.looks import DOWN, UP, moments_of

MOST_INSTRUMENTS = 4
MOST_CANDLES = 800  # more than these are thinner than a pixel each
MOST_TRADES = 150  # of an instrument; more would cover the candles
LEAST_CANDLES = 48
DRAWN_IN = ("15m", "1h", "4h", "1d")
SIDES = ((1, "long", "triangle-up", UP), (-1, "short", "triangle-down", DOWN))


@dataclass(frozen=True, kw_only=True)
class Traded:
    """What is to be drawn of one instrument."""

    coin_id: str
    note: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)


def draw_traded(record: Record) -> Iterator[Traded]:
    """The four most traded instruments, each with its newest trades at most.

    The candles are the shortest of which the time of those trades has no more than 800, else days.
    """
    for coin_id in record.instruments[:MOST_INSTRUMENTS]:
        trades = [each for each in record.trades if each.instrument == coin_id]
        if trades:
            yield _draw(record, coin_id, trades[-MOST_TRADES:], len(trades))


def _draw(record: Record, coin_id: str, trades: list[RoundTrip], count: int) -> Traded:
    first = from_ms(min(each.entered_at for each in trades))
    last = from_ms(max(each.exited_at for each in trades))
    timeframe = _timeframe(record.timeframe, last - first)
    step = TIMEFRAMES[timeframe]
    margin = max(step * LEAST_CANDLES - (last - first), step * 4) / 2
    candles = candle_history(
        instruments=[coin_id],
        timeframe=timeframe,
        start=floor_time(max(first, last - step * MOST_CANDLES) - margin, timeframe),
        end=floor_time(min(last + margin, record.end), timeframe) + step,
    )
    shown = "its trade" if count == 1 else f"{'all' if len(trades) == count else 'the newest'}"
    words = shown if count == 1 else f"{shown} {len(trades):,} of {count:,} trades"
    return Traded(
        coin_id=coin_id,
        note=f"Candles of {timeframe}, {words}: entries, and exits that won or lost.",
        traces=[*_candles(coin_id, candles), *_entries(trades), *_exits(trades)],
        layout={
            "xaxis": {"type": "date", "rangeslider": {"visible": False}},
            "hovermode": "closest",
        },
    )


def _timeframe(shortest: str, span: timedelta) -> str:
    choices = [each for each in DRAWN_IN if TIMEFRAMES[each] >= TIMEFRAMES[shortest]]
    fitting = (each for each in choices if span / TIMEFRAMES[each] <= MOST_CANDLES)
    return next(fitting, DRAWN_IN[-1])


def _candles(coin_id: str, candles: CandleMatrix) -> Iterator[dict[str, Any]]:
    known = candles.valid[:, 0]
    if not known.any():
        return
    yield {
        "type": "candlestick",
        "name": "candles",
        "x": moments_of(candles.open_time[known]),
        **{name: getattr(candles, name)[known, 0] for name in ("open", "high", "low", "close")},
        "increasing": {"line": {"color": UP, "width": 1}, "fillcolor": "rgba(22,163,74,0.35)"},
        "decreasing": {"line": {"color": DOWN, "width": 1}, "fillcolor": "rgba(220,38,38,0.35)"},
    }


def _entries(trades: list[RoundTrip]) -> Iterator[dict[str, Any]]:
    for direction, name, symbol, color in SIDES:
        chosen = [each for each in trades if each.direction == direction]
        if chosen:
            yield _markers(
                f"{name} entry",
                moments_of([each.entered_at for each in chosen]),
                [each.entry_price for each in chosen],
                [f"{name} at {each.entry_price:g}" for each in chosen],
                {"symbol": symbol, "color": color, "size": 9},
            )


def _exits(trades: list[RoundTrip]) -> Iterator[dict[str, Any]]:
    for has_won, name, color in ((True, "won", UP), (False, "lost", DOWN)):
        chosen = [each for each in trades if (each.net > 0.0) is has_won]
        if chosen:
            yield _markers(
                f"exit, {name}",
                moments_of([each.exited_at for each in chosen]),
                [each.exit_price for each in chosen],
                [f"{name} {abs(each.net):,.2f} at {each.exit_price:g}" for each in chosen],
                {"symbol": "x", "color": color, "size": 7},
            )


def _markers(
    name: str,
    moments: NDArray[np.datetime64],
    prices: list[float],
    texts: list[str],
    marker: dict[str, Any],
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": moments,
        "y": prices,
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {**marker, "line": {"color": "#ffffff", "width": 1}},
    }
