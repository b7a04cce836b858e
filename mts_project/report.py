"""The report of a demo as files: one HTML page that needs nothing else, and the same as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from mts_project.pipeline import ACCOUNT
from mts_project.summary import Summary
from trading.models import EquityPoint, Trade

CHART_WIDTH, CHART_HEIGHT, CHART_MARGIN = 900, 260, 40
NEWEST_TRADES = 200
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 2rem }
th, td { padding: .25rem .9rem; border-bottom: 1px solid #d8dee8; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
svg { width: 100%; height: auto; background: #f7f9fc; border: 1px solid #d8dee8 }
"""


def write_report(summary: Summary, *, folder: Path) -> Path:
    """Write `demo_{time}.html` and `.json` into `folder`; returns the HTML file's path.

    Each is written whole or not at all, and never over another: `_2`, `_3` where a name is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"demo_{datetime.now(UTC):%Y%m%d_%H%M%S}"
    content = report_content(summary)
    _write_new(folder, name, ".json", json.dumps(content, indent=2))
    return _write_new(folder, name, ".html", render_html(content, _equity_points()))


def report_content(summary: Summary) -> dict[str, Any]:
    """`{execution_summary, performance_metrics, trades}` with decimals as strings."""
    points = _equity_points()
    return {
        "execution_summary": {
            "market_start": summary.market_start.isoformat(),
            "market_end": summary.market_end.isoformat(),
            "market_hours": round(summary.market_hours, 2),
            "instruments": summary.instruments,
            "stages": summary.stages,
            "seconds_to_first": summary.arrivals,
            "ledgers": {
                ledger.account: {
                    "cash": str(ledger.cash),
                    "entries": str(ledger.entries),
                    "is_balanced": ledger.is_balanced,
                }
                for ledger in summary.ledgers
            },
        },
        "performance_metrics": _performance([value for _, value in points]),
        "trades": [_trade(trade) for trade in _trades()],
    }


def render_html(content: dict[str, Any], points: Sequence[tuple[datetime, float]]) -> str:
    """The page: stages, equity curve, figures and trades."""
    run = content["execution_summary"]
    speeds = {
        f"first {stage}": "never" if seconds is None else f"{seconds:.1f} s"
        for stage, seconds in run["seconds_to_first"].items()
    }
    ledgers = {
        f"ledger of {name}": "balances" if ledger["is_balanced"] else "does not balance"
        for name, ledger in run["ledgers"].items()
    }
    facts = {
        "market time": f"{run['market_start'][:16]} to {run['market_end'][:16]}",
        "market hours": run["market_hours"],
        "instruments with candles": run["instruments"],
        **speeds,
        **ledgers,
    }
    trades = content["trades"]
    return "".join(
        (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
            f"<title>MTS demo</title><style>{STYLE}</style></head><body><h1>MTS demo</h1>",
            f"<h2>Equity</h2>{equity_curve(points)}",
            f"<h2>Rows per stage</h2>{_pairs(run['stages'])}<h2>The run</h2>{_pairs(facts)}",
            f"<h2>Performance</h2>{_pairs(content['performance_metrics'])}",
            f"<h2>Trades</h2>{_rows(trades) if trades else '<p>No closed trade.</p>'}",
            "</body></html>",
        )
    )


def equity_curve(points: Sequence[tuple[datetime, float]]) -> str:
    """An SVG line of equity over market time; a sentence when there are fewer than two points."""
    if len(points) < 2:
        return "<p>Too few points for a curve.</p>"
    first, last = points[0][0].timestamp(), points[-1][0].timestamp()
    low, high = min(value for _, value in points), max(value for _, value in points)
    width, height = CHART_WIDTH - 2 * CHART_MARGIN, CHART_HEIGHT - 2 * CHART_MARGIN
    path = " ".join(
        f"{CHART_MARGIN + width * (at.timestamp() - first) / ((last - first) or 1):.1f},"
        f"{CHART_MARGIN + height * (high - value) / ((high - low) or 1):.1f}"
        for at, value in points
    )
    bottom = CHART_HEIGHT - CHART_MARGIN / 3
    return (
        f"<svg viewBox='0 0 {CHART_WIDTH} {CHART_HEIGHT}' role='img' aria-label='equity curve'>"
        f"<polyline fill='none' stroke='#2563eb' stroke-width='2' points='{path}'/>"
        f"<text x='{CHART_MARGIN}' y='{CHART_MARGIN - 12}' font-size='13'>{high:,.2f}</text>"
        f"<text x='{CHART_MARGIN}' y='{CHART_HEIGHT - CHART_MARGIN + 16}' font-size='13'>"
        f"{low:,.2f}</text>"
        f"<text x='{CHART_MARGIN}' y='{bottom:.0f}' font-size='12'>"
        f"{points[0][0]:%Y-%m-%d %H:%M}</text>"
        f"<text x='{CHART_WIDTH - CHART_MARGIN}' y='{bottom:.0f}' font-size='12' "
        f"text-anchor='end'>{points[-1][0]:%Y-%m-%d %H:%M}</text></svg>"
    )


def _equity_points() -> list[tuple[datetime, float]]:
    rows = EquityPoint.objects.filter(account__name=ACCOUNT).order_by("at")
    return [(at, float(equity)) for at, equity in rows.values_list("at", "equity")]


def _performance(equity: Sequence[float]) -> dict[str, Any]:
    """Figures of the equity curve as fractions; null where nothing is defined."""
    peak, drawdown = 0.0, 0.0
    for value in equity:
        peak = max(peak, value)
        drawdown = max(drawdown, 1 - value / peak if peak > 0 else 0.0)
    return {
        "initial_equity": equity[0] if equity else None,
        "final_equity": equity[-1] if equity else None,
        "total_return": equity[-1] / equity[0] - 1 if equity and equity[0] > 0 else None,
        "max_drawdown": drawdown if equity else None,
    }


def _trades() -> list[Trade]:
    rows = Trade.objects.filter(account__name=ACCOUNT).select_related("instrument")
    return list(rows.order_by("-exited_at")[:NEWEST_TRADES])


def _trade(trade: Trade) -> dict[str, Any]:
    return {
        "instrument": trade.instrument.coin_id,
        "strategy": trade.strategy,
        "direction": "long" if trade.direction > 0 else "short",
        "quantity": trade.quantity,
        "entry_price": trade.entry_price,
        "exit_price": trade.exit_price,
        "pnl": str(trade.pnl),
        "fees": str(trade.fees),
        "entered_at": trade.entered_at.isoformat(),
        "exited_at": trade.exited_at.isoformat(),
        "exit_reason": trade.exit_reason,
    }


def _pairs(values: dict[str, Any]) -> str:
    rows = (
        f"<tr><th>{escape(name.replace('_', ' '))}</th><td class='number'>{_text(value)}</td></tr>"
        for name, value in values.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _rows(rows: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in rows[0])
    body = "".join(
        f"<tr>{''.join(f'<td>{_text(value)}</td>' for value in row.values())}</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _text(value: object) -> str:
    if value is None:
        return "-"
    return escape(f"{value:,.6g}" if isinstance(value, float) else str(value))


def _write_new(folder: Path, name: str, suffix: str, text: str) -> Path:
    temporary = folder / f".{name}{suffix}.{os.getpid()}"
    temporary.write_text(text, encoding="utf-8")
    try:
        number = 1
        while True:
            path = folder / f"{name}{'' if number == 1 else f'_{number}'}{suffix}"
            try:
                # A link, unlike a rename, fails when the name is taken.
                os.link(temporary, path)
            except FileExistsError:
                number += 1
            else:
                return path
    finally:
        temporary.unlink()
