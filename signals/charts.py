"""The chart of an inspection: candles, what the strategy wants, and what it decides by.

A Plotly figure of panels that share one time axis, labelled by the open time of the bars. The
diagnostics stand below in panels of like size; those as large as the price lie over the candles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import plotly.graph_objects as go

from collectors.marketdata import duration, from_ms
from signals.inspection import Inspection
from signals.models import Direction, Signal
from signals.strategy import FloatArray

MOST_CANDLES = 800  # more than these are thinner than a pixel each: a line then
MOST_LINES = 4  # whose names fit above a panel on a narrow screen
PRICE_REACH, PRICE_SHARE = 0.25, 0.9
UP, DOWN, NEITHER = "#16a34a", "#dc2626", "#8b8b95"
PRICES = ("open", "high", "low", "close")
STOP, TARGET = "#ea580c", "#0891b2"
PRICE_PX, VOLUME_PX, PANEL_PX, GAP_PX, TOP_PX, BOTTOM_PX = 340, 80, 130, 48, 60, 36
GRID = "rgba(128, 128, 140, 0.22)"
MARKERS = {
    Direction.LONG: ("triangle-up", UP),
    Direction.SHORT: ("triangle-down", DOWN),
    Direction.FLAT: ("circle", NEITHER),
}


@dataclass
class _Panel:
    """A part of the figure with a value axis of its own, `height` in pixels."""

    height: int
    traces: list[dict[str, Any]] = field(default_factory=list)


def draw_inspection(inspection: Inspection) -> go.Figure:
    """The figure; colours fit a light and a dark page, which gives it its text colour."""
    overlays, groups = group_by_scale(inspection.diagnostics, inspection.candles["close"])
    panels = [_price_panel(inspection, overlays)]
    if np.isfinite(inspection.candles["volume"]).any():
        panels.append(_volume_panel(inspection))
    voices = {"confidence": inspection.values["confidence"]}
    for names in groups or [[]]:
        shown = {name: inspection.diagnostics[name] for name in names}
        if voices and (not names or _size(voices) in (None, _size(shown))):
            shown, voices = {**shown, **voices}, {}
        panels.append(_lines_panel(inspection, shown))
    if voices:
        panels.append(_lines_panel(inspection, voices))
    return _figure(inspection, panels)


def group_by_scale(
    diagnostics: Mapping[str, FloatArray], close: FloatArray
) -> tuple[list[str], list[list[str]]]:
    """The names that are prices of this instrument, and the others in groups of like size.

    A price is what stays within a quarter of the close at nine bars of ten; of like size is what
    reaches the same power of ten (1.5 counts as 1, so that -1 to 1 and 0 to 100 stay together). A
    group has at most MOST_LINES.
    """
    overlays: list[str] = []
    groups: dict[int, list[str]] = {}
    for name, values in diagnostics.items():
        known = np.isfinite(values)
        near = np.abs(values[known] / close[known] - 1.0) <= PRICE_REACH
        if len(near) and near.mean() >= PRICE_SHARE:
            overlays.append(name)
        else:
            groups.setdefault(_size({name: values}) or 0, []).append(name)
    ordered = [groups[size] for size in sorted(groups)]
    return overlays, [
        names[first : first + MOST_LINES]
        for names in ordered
        for first in range(0, len(names), MOST_LINES)
    ]


def _size(series: Mapping[str, FloatArray]) -> int | None:
    """The power of ten that the largest value reaches; None without any but zeros."""
    peaks = [float(np.max(np.abs(v[np.isfinite(v)]), initial=0.0)) for v in series.values()]
    peak = max(peaks, default=0.0)
    return math.ceil(math.log10(peak / 1.5)) if peak > 0.0 else None


def _price_panel(inspection: Inspection, overlays: list[str]) -> _Panel:
    panel = _Panel(height=PRICE_PX)
    panel.traces.extend(_shades(inspection))
    known = inspection.valid
    if len(inspection.open_time) <= MOST_CANDLES:
        panel.traces.append(
            {
                "type": "candlestick",
                "name": inspection.coin_id,
                "x": inspection.open_time[known].astype("datetime64[ms]"),
                **{name: inspection.candles[name][known] for name in PRICES},
                "increasing": {"line": {"color": UP, "width": 1}},
                "decreasing": {"line": {"color": DOWN, "width": 1}},
            }
        )
    else:
        close = np.where(known, inspection.candles["close"], np.nan)
        panel.traces.append(_line(inspection, inspection.coin_id, close, color=NEITHER))
    is_active = inspection.direction != 0
    for name, color in (("stop_loss", STOP), ("take_profit", TARGET)):
        level = np.where(is_active, inspection.values[name], np.nan)
        if np.isfinite(level).any():
            line = _line(inspection, name.replace("_", " "), level, color=color)
            line["line"] |= {"dash": "dot", "shape": "hv"}
            panel.traces.append(line)
    panel.traces += [_line(inspection, name, inspection.diagnostics[name]) for name in overlays]
    panel.traces += [
        _markers(direction, chosen)
        for direction in Direction
        if (chosen := [each for each in inspection.signals if each.direction == direction])
    ]
    return panel


def _volume_panel(inspection: Inspection) -> _Panel:
    bars = {
        "type": "bar",
        "name": "volume",
        **_times(inspection),
        "y": np.where(inspection.valid, inspection.candles["volume"], np.nan),
        "marker": {"color": NEITHER, "line": {"width": 0}},
    }
    return _Panel(height=VOLUME_PX, traces=[bars])


def _lines_panel(inspection: Inspection, series: Mapping[str, FloatArray]) -> _Panel:
    lines = [_line(inspection, name, values) for name, values in series.items()]
    return _Panel(height=PANEL_PX, traces=lines)


def _shades(inspection: Inspection) -> Iterator[dict[str, Any]]:
    """The background of the runs of bars at which the strategy wants to be long, and short."""
    step = _step_ms(inspection)
    for wanted, name, color in ((1, "wants long", UP), (-1, "wants short", DOWN)):
        edges = np.diff((inspection.direction == wanted).astype(np.int8), prepend=0, append=0)
        starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        if not len(starts):
            continue
        widths = (stops - starts) * step
        # A bar's time is its middle here, and its left edge half a candle before the first's.
        middles = inspection.open_time[starts] + (widths - step) / 2.0
        yield {
            "type": "bar",
            "name": name,
            "x": middles.astype("datetime64[ms]"),
            "y": np.ones(len(starts)),
            "width": widths,
            "marker": {"color": color, "opacity": 0.16, "line": {"width": 0}},
            "hoverinfo": "skip",
            "yaxis": "y2",
        }


def _markers(direction: Direction, signals: list[Signal]) -> dict[str, Any]:
    symbol, color = MARKERS[direction]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"said {direction.label}",
        "x": [_plain(signal.bar_open_time) for signal in signals],
        "y": [signal.price for signal in signals],
        "text": [_told(signal) for signal in signals],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "symbol": symbol,
            "size": 12,
            "color": color,
            "line": {"color": "#ffffff", "width": 1},
        },
    }


def _told(signal: Signal) -> str:
    parts = [f"{signal.signal_type} at {signal.price:g}", f"confidence {signal.confidence:.2f}"]
    if signal.stop_loss is not None:
        parts.append(f"stop {signal.stop_loss:g}")
    if signal.take_profit is not None:
        parts.append(f"target {signal.take_profit:g}")
    return ", ".join(parts)


def _line(
    inspection: Inspection, name: str, values: FloatArray, *, color: str | None = None
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        **_times(inspection),
        "y": np.where(np.isfinite(values), values, np.nan),
        "line": {"width": 1.4, **({"color": color} if color else {})},
        "connectgaps": False,
    }


def _times(inspection: Inspection) -> dict[str, Any]:
    first = from_ms(int(inspection.open_time[0]))
    return {"x0": _plain(first), "dx": _step_ms(inspection)}


def _step_ms(inspection: Inspection) -> float:
    return duration(inspection.timeframe).total_seconds() * 1000.0


def _plain(moment: datetime) -> str:
    """A moment without its zone, which Plotly would turn into the browser's."""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _figure(inspection: Inspection, panels: list[_Panel]) -> go.Figure:
    inner = sum(panel.height + GAP_PX for panel in panels) - GAP_PX
    layout = _layout(inspection, height=inner + TOP_PX + BOTTOM_PX)
    traces: list[dict[str, Any]] = []
    top = inner
    for number, panel in enumerate(panels):
        axis = number + 1 if number == 0 else number + 2  # the second is that of the shades
        label = "" if axis == 1 else str(axis)
        low = top - panel.height
        layout[f"yaxis{label}"] = {
            "domain": [low / inner, top / inner],
            "gridcolor": GRID,
            "zerolinecolor": GRID,
            "tickfont": {"size": 10},
            "nticks": 6,
            "fixedrange": True,
        }
        layout[f"legend{label}"] = {
            "orientation": "h",
            "x": 0,
            "y": top / inner,
            "yanchor": "bottom",
            "font": {"size": 11},
            "bgcolor": "rgba(0,0,0,0)",
        }
        for trace in panel.traces:
            traces.append({"yaxis": f"y{label}", **trace, "legend": f"legend{label}"})
            traces[-1].setdefault("showlegend", True)
        top = low - GAP_PX
    layout["yaxis2"] = {
        "overlaying": "y",
        "range": [0, 1],
        "visible": False,
        "fixedrange": True,
    }
    layout["xaxis"]["anchor"] = "y" if len(panels) == 1 else f"y{len(panels) + 1}"
    return go.Figure(data=traces, layout=layout)


def _layout(inspection: Inspection, *, height: int) -> dict[str, Any]:
    step = duration(inspection.timeframe)
    first, last = (from_ms(int(inspection.open_time[row])) for row in (0, -1))
    return {
        "height": height,
        "margin": {"l": 56, "r": 12, "t": TOP_PX, "b": BOTTOM_PX},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "x",
        "hoversubplots": "axis",
        "barmode": "overlay",
        "bargap": 0,
        "template": "none",
        "xaxis": {
            "type": "date",
            "range": [_plain(first - step / 2), _plain(last + step / 2)],
            "rangeslider": {"visible": False},
            "gridcolor": GRID,
            "tickfont": {"size": 10},
            "showspikes": True,
            "spikemode": "across",
            "spikethickness": 1,
            "spikecolor": NEITHER,
        },
    }
