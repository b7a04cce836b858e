"""How the charts of a report look: colours for a light and a dark page, axes, text. Pure but for
Plotly."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

OURS, THEIRS, UP, DOWN, NEITHER = "#2563eb", "#a1a1aa", "#16a34a", "#dc2626", "#8b8b95"
GRID = "rgba(128, 128, 140, 0.22)"
LOSS_TO_WIN = [[0.0, DOWN], [0.5, "rgba(128, 128, 140, 0.12)"], [1.0, UP]]
HEAT = [[0.0, "rgba(128, 128, 140, 0.08)"], [0.5, "#f59e0b"], [1.0, DOWN]]


def plain(name: str) -> str:
    """Text that Plotly shows as it is, though it reads tags, links and entities."""
    return html.escape(name)


def moments_of(times: Sequence[int] | NDArray[np.int64]) -> NDArray[np.datetime64]:
    """Epoch milliseconds as Plotly takes them: without a zone, which it would not keep."""
    return np.asarray(times, dtype=np.int64).astype("datetime64[ms]")


def figure_of(traces: Sequence[dict[str, Any]], *, height: int, **layout: Any) -> go.Figure:
    """A figure that fits a light and a dark page; the page gives it its text colour."""
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "automargin": True}
    base: dict[str, Any] = {
        "height": height,
        "margin": {"l": 60, "r": 16, "t": 16, "b": 36},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "template": "none",
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        "xaxis": {**axis, **layout.pop("xaxis", {})},
        "yaxis": {**axis, **layout.pop("yaxis", {})},
    }
    return go.Figure(data=list(traces), layout={**base, **layout})
