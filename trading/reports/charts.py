"""The charts of a report as Plotly figures, each with a title and a word on what it shows.

Names from the database go through `plain`, as Plotly reads tags, links and entities in text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from collectors.marketdata import to_ms
from trading.reports.content import Record, Report
from trading.reports.curves import mean_exposure, telling_rows
from trading.reports.looks import (
    DOWN,
    HEAT,
    LOSS_TO_WIN,
    NEITHER,
    OURS,
    THEIRS,
    UP,
    figure_of,
    moments_of,
    plain,
)
from trading.reports.traded import draw_traded
from trading.returns import underwater
from trading.roundtrips import group_rows

MOST_POINTS = 4_000  # of a line; more are closer than the pixels of a wide screen
MOST_ROWS = 15  # of a heat map
MOST_BINS = 200
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure and its words; `name` is an identifier."""

    name: str
    title: str
    note: str
    figure: go.Figure


def draw_charts(report: Report) -> list[Chart]:
    """Those for which there is something to draw, in the order of the page."""
    return list(_charts(report))


def _charts(report: Report) -> Iterator[Chart]:
    record = report.record
    if record.times:
        yield from _equity(record)
    if report.metrics["monthly_returns"]:
        yield _months(report.metrics["monthly_returns"])
    yield from _heat(report)
    if record.trades:
        yield _costs(report)
    yield from (
        Chart(
            name=f"traded-{number}",
            title=f"Trades of {traded.coin_id}",
            note=traded.note,
            figure=figure_of(traded.traces, height=380, **traded.layout),
        )
        for number, traded in enumerate(draw_traded(record))
    )


def _equity(record: Record) -> Iterator[Chart]:
    capital = float(record.initial_capital)
    # The capital stands before the first mark.
    times = np.array([min(record.start_ms, record.times[0]), *record.times], dtype=np.int64)
    lines = {"equity": np.append(capital, record.marks)}
    if record.benchmark is not None:
        lines["buy and hold"] = np.append(capital, record.benchmark)
    rows = telling_rows(list(lines.values()), MOST_POINTS)
    moments = moments_of(times[rows])
    colors = (OURS, THEIRS)
    held = len(record.instruments)
    yield Chart(
        name="equity",
        title="Equity",
        note=(
            f"Beside the same capital, bought in equal parts of the {held} traded"
            f" instrument{'s' if held > 1 else ''} at the start and held, without costs."
            if record.benchmark is not None
            else "In quote units."
        ),
        figure=figure_of(
            [
                {"type": "scatter", "mode": _mode(rows), "name": name, "x": moments,
                 "y": values[rows], "line": {"width": 1.6, "color": color}}
                for (name, values), color in zip(lines.items(), colors, strict=False)
            ],
            height=340,
            hovermode="x unified",
        ),
    )  # fmt: skip
    yield Chart(
        name="underwater",
        title="Underwater",
        note="How far equity was below its highest until then.",
        figure=figure_of(
            [
                {"type": "scatter", "mode": _mode(rows), "name": name, "x": moments,
                 "y": -underwater(values, capital)[rows], "fill": "tozeroy" if not number else None,
                 "line": {"width": 1.2, "color": color}}
                for number, ((name, values), color) in enumerate(
                    zip(lines.items(), (DOWN, THEIRS), strict=False)
                )
            ],
            height=220,
            hovermode="x unified",
            yaxis={"tickformat": ".1%", "rangemode": "tozero"},
        ),
    )  # fmt: skip


def _mode(rows: NDArray[np.int64]) -> str:
    return "lines+markers" if len(rows) <= 3 else "lines"


def _months(months: Sequence[dict[str, Any]]) -> Chart:
    years = sorted({int(each["month"][:4]) for each in months})
    table = np.full((len(years), 12), np.nan)
    for each in months:
        table[years.index(int(each["month"][:4])), int(each["month"][5:]) - 1] = each["return"]
    reach = float(np.nanmax(np.abs(table))) or 0.01
    texts = [["" if np.isnan(value) else f"{value:+.1%}" for value in row] for row in table]
    return Chart(
        name="months",
        title="Monthly returns",
        note="Of calendar months in UTC, from the last mark of the month before.",
        figure=figure_of(
            [
                {"type": "heatmap", "x": MONTHS, "y": [str(year) for year in years], "z": table,
                 "text": texts, "texttemplate": "%{text}", "zmin": -reach, "zmax": reach,
                 "colorscale": LOSS_TO_WIN, "showscale": False, "xgap": 2, "ygap": 2,
                 "hovertemplate": "%{x} %{y}: %{text}<extra></extra>"}
            ],
            height=90 + 36 * len(years),
            yaxis={"type": "category", "autorange": "reversed"},
            xaxis={"type": "category"},
        ),
    )  # fmt: skip


def _heat(report: Report) -> Iterator[Chart]:
    """Exposure over equity, by instrument and by sector."""
    record = report.record
    held = _held(report)
    if not held or not record.times:
        return
    stop = max(record.end_ms, record.start_ms + MOST_BINS)
    edges = np.linspace(record.start_ms, stop, MOST_BINS + 1).astype(np.int64)
    middles = (edges[:-1] + edges[1:]) // 2
    equity = np.interp(middles, np.array(record.times), record.marks)
    shares = {
        coin_id: np.divide(
            mean_exposure(since=since, until=until, worth=worth, edges=edges),
            equity, out=np.zeros(MOST_BINS), where=equity > 0.0,
        )
        for coin_id, (since, until, worth) in held.items()
    }  # fmt: skip
    sectors: dict[str, NDArray[np.float64]] = {}
    for coin_id, share in shares.items():
        sector = report.sectors.get(coin_id, "") or "no sector"
        sectors[sector] = sectors.get(sector, 0.0) + share
    for name, rows in (("instrument", shares), ("sector", sectors)):
        yield Chart(
            name=f"heat-{name}",
            title=f"Heat by {name}",
            note="What was held, at its price of entry, as a share of equity.",
            figure=_heat_map(moments_of(middles), rows),
        )


Held = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _held(report: Report) -> dict[str, Held]:
    """What was held of each instrument: since when and until when (ms), and its worth at entry."""
    record, columns = report.record, report.record.columns
    held: dict[str, Held] = {
        coin_id: (columns.entered[rows], columns.exited[rows], columns.worth[rows])
        for coin_id, rows in group_rows(record.trades, "instrument").items()
    }
    nothing = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    for row in report.summary["open_positions"]:
        at = record.start_ms
        if row["entered_at"] is not None:
            at = min(to_ms(datetime.fromisoformat(row["entered_at"])), record.end_ms)
        since, until, worth = held.get(row["instrument"], nothing)
        held[row["instrument"]] = (
            np.append(since, at),
            np.append(until, record.end_ms),
            np.append(worth, abs(float(row["total_cost"]))),
        )
    return held


def _heat_map(
    moments: NDArray[np.datetime64], shares: Mapping[str, NDArray[np.float64]]
) -> go.Figure:
    # The hottest stand on top, and those beyond the last row are one.
    ordered = sorted(shares, key=lambda name: -float(shares[name].mean()))
    shown = {plain(name): shares[name] for name in ordered[:MOST_ROWS]}
    if rest := ordered[MOST_ROWS:]:
        shown[f"{len(rest)} others"] = np.sum([shares[name] for name in rest], axis=0)
    table = np.array(list(shown.values()))
    return figure_of(
        [
            {"type": "heatmap", "x": moments, "y": list(shown), "z": table, "zmin": 0.0,
             "zmax": float(table.max()) or 1.0, "colorscale": HEAT, "ygap": 1,
             "showscale": len(shown) > 2,
             "colorbar": {"tickformat": ".0%", "thickness": 10, "outlinewidth": 0},
             "hovertemplate": "%{y}, %{x}: %{z:.1%}<extra></extra>"}
        ],
        height=90 + 24 * len(shown),
        yaxis={"type": "category", "autorange": "reversed"},
    )  # fmt: skip


def _costs(report: Report) -> Chart:
    record = report.record
    pnl = float(record.columns.pnl.sum())
    slippage, fees, funding = (
        float(getattr(record.columns, name).sum()) for name in ("slippage", "fees", "funding")
    )
    known = report.summary["costs"]
    costs = {"slippage": -slippage, "fees": -fees, "funding": funding}
    taken = {name: cost for name, cost in costs.items() if known[name] is not None}
    steps = {"before costs": pnl + slippage, **taken}
    return Chart(
        name="costs",
        title="From profit to net",
        note=(
            "What the closed trades made at reference prices, and what trading took of it."
            if "slippage" in taken
            else "What the closed trades made at their prices, and what trading took of it."
        ),
        figure=figure_of(
            [
                {"type": "waterfall", "x": [*steps, "net"], "y": [*steps.values(), 0.0],
                 "measure": ["absolute", *["relative"] * len(taken), "total"],
                 "text": [f"{value:,.2f}" for value in (*steps.values(), pnl - fees + funding)],
                 "increasing": {"marker": {"color": UP}}, "decreasing": {"marker": {"color": DOWN}},
                 "totals": {"marker": {"color": OURS}}, "textposition": "outside",
                 "connector": {"line": {"color": NEITHER, "width": 1}},
                 "hovertemplate": "%{x}: %{text}<extra></extra>"}
            ],
            height=300,
            showlegend=False,
        ),
    )  # fmt: skip
