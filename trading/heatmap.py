"""The heat map of an account: what moves with what, signed by how it is held."""

from __future__ import annotations

import plotly.graph_objects as go

from risk.metrics import Heat

CELL_PX, EDGE_PX = 48, 90
# Blue hedges, red moves as one; what is unknown is left empty. Solid, so that the text in a cell is
# dark or light as the cell asks for, whatever the page.
COLOURS = [[0.0, "#2563eb"], [0.5, "#e4e4e7"], [1.0, "#dc2626"]]


def draw_heat(heat: Heat) -> go.Figure:
    """A square of the held instruments, largest first: their correlations times both directions.

    The text of each cell is what the pair adds to the square of the correlation-weighted heat, in
    percent of it.
    """
    names = sorted(heat.by_instrument, key=lambda name: -abs(heat.by_instrument[name]))
    labels = [f"{name} {100.0 * heat.by_instrument[name]:+.1f}%" for name in names]
    signed = [[_signed(heat, one, other) for other in names] for one in names]
    total = heat.correlation_weighted**2
    parts = [
        [_part(heat, one, other, value, total) for other, value in zip(names, row, strict=True)]
        for one, row in zip(names, signed, strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            x=labels,
            y=labels,
            z=signed,
            text=parts,
            texttemplate="%{text}",
            zmin=-1.0,
            zmax=1.0,
            colorscale=COLOURS,
            hoverongaps=False,
            hovertemplate="%{y}<br>%{x}<br>moves as held: %{z:.2f}<extra></extra>",
            colorbar={"title": "as held", "thickness": 12},
        )
    )
    figure.update_layout(
        template="none",
        height=EDGE_PX + CELL_PX * max(len(names), 4),
        margin={"l": 10, "r": 10, "t": 20, "b": 10},
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        yaxis={"autorange": "reversed", "automargin": True, "showgrid": False, "zeroline": False},
        xaxis={"automargin": True, "showgrid": False, "zeroline": False},
    )
    return figure


def _signed(heat: Heat, one: str, other: str) -> float | None:
    """The correlation times both directions; None when it is unknown."""
    if one == other:
        return 1.0
    pair = (one, other) if (one, other) in heat.correlations else (other, one)
    value = heat.correlations[pair]
    if value is None:
        return None
    is_same_side = heat.by_instrument[one] * heat.by_instrument[other] > 0.0
    return value if is_same_side else -value


def _part(heat: Heat, one: str, other: str, signed: float | None, total: float) -> str:
    if signed is None or total <= 0.0:
        return ""
    product = abs(heat.by_instrument[one] * heat.by_instrument[other])
    return f"{round(100.0 * product * signed / total)}%"
