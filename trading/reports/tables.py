"""The tables of a report's page: what is in them, in words and formatted figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trading.reports.content import Report

MOST_TRADES = 500  # of the page; the JSON file has all
NONE = "-"
SHARE, AMOUNT, COUNT, NUMBER, DAYS, HOURS = "share", "amount", "count", "number", "days", "hours"

METRICS: dict[str, dict[str, str]] = {
    "Return and risk": {
        "total_return": SHARE, "annualised_return": SHARE, "volatility": SHARE,
        "sharpe_ratio": NUMBER, "sortino_ratio": NUMBER, "calmar_ratio": NUMBER,
        "max_drawdown": SHARE, "max_drawdown_amount": AMOUNT, "max_drawdown_days": DAYS,
        "longest_drawdown_days": DAYS, "value_at_risk": SHARE, "expected_shortfall": SHARE,
    },
    "Trades": {
        "trade_count": COUNT, "win_count": COUNT, "loss_count": COUNT, "win_rate": SHARE,
        "profit_factor": NUMBER, "expectancy": AMOUNT, "average_win": AMOUNT,
        "average_loss": AMOUNT, "largest_win": AMOUNT, "largest_loss": AMOUNT,
        "average_holding_hours": HOURS,
    },
    "Exposure and costs": {
        "average_exposure": SHARE, "largest_exposure": SHARE, "time_in_market": SHARE,
        "traded_notional": AMOUNT, "turnover": NUMBER, "fees_paid": AMOUNT,
        "slippage_paid": AMOUNT, "funding_paid": AMOUNT,
    },
    "Against buy and hold": {
        "benchmark_return": SHARE, "benchmark_annualised_return": SHARE,
        "benchmark_volatility": SHARE, "benchmark_sharpe_ratio": NUMBER,
        "benchmark_max_drawdown": SHARE, "excess_return": SHARE, "alpha": SHARE, "beta": NUMBER,
    },
}  # fmt: skip
GROUP_COLUMNS = {
    "trade_count": COUNT, "win_rate": SHARE, "profit_factor": NUMBER, "expectancy": AMOUNT,
    "pnl": AMOUNT, "fees": AMOUNT, "slippage": AMOUNT, "funding": AMOUNT, "net": AMOUNT,
}  # fmt: skip
WORDS = {
    "max_drawdown": "deepest drawdown",
    "max_drawdown_amount": "deepest drawdown, amount",
    "max_drawdown_days": "deepest drawdown, length",
    "longest_drawdown_days": "longest drawdown",
    "value_at_risk": "value at risk (a day, 95%)",
    "expected_shortfall": "expected shortfall (a day, 95%)",
    "average_holding_hours": "average holding time",
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text. Rows hold a cell for each column; a table without `columns` is of pairs.

    `numbers` are the positions of the columns that stand to the right.
    """

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = field(default=frozenset({1}))
    note: str = ""


def pairs(title: str, values: Mapping[str, object]) -> Table:
    """A table of names and values; underscores of the names are spaces, None is a dash."""
    rows = [(_words(name), NONE if value is None else str(value)) for name, value in values.items()]
    return Table(title=title, rows=rows)


def headline(report: Report) -> list[tuple[str, str]]:
    """The few figures that stand above all."""
    wanted = {
        "final_value": AMOUNT, "total_return": SHARE, "benchmark_return": SHARE,
        "sharpe_ratio": NUMBER, "max_drawdown": SHARE, "trade_count": COUNT, "win_rate": SHARE,
    }  # fmt: skip
    words = {"final_value": "equity", "benchmark_return": "buy and hold", "trade_count": "trades"}
    return [
        (words.get(name) or _words(name), figure(report.metrics[name], kind))
        for name, kind in wanted.items()
    ]


def metric_tables(report: Report) -> list[Table]:
    """Every metric, in groups."""
    return [
        Table(
            title=title,
            rows=[
                (_words(name), figure(report.metrics[name], kind)) for name, kind in kinds.items()
            ],
        )
        for title, kinds in METRICS.items()
    ]


def account_tables(report: Report) -> list[Table]:
    """By strategy, instrument and reason of exit, and what is held; none without rows."""
    shown = {name: kind for name, kind in GROUP_COLUMNS.items() if _is_known(report, name)}
    tables = [
        Table(
            title=f"By {_words(name.removeprefix('by_'))}",
            columns=["", *map(_words, shown)],
            rows=[
                (group, *(figure(values[each], kind) for each, kind in shown.items()))
                for group, values in report.metrics[name].items()
            ],
            numbers=frozenset(range(1, len(shown) + 1)),
        )
        for name in ("by_strategy", "by_instrument", "by_exit_reason")
        if name in report.metrics
    ]
    columns = (
        "instrument", "sector", "strategy", "direction", "quantity", "mark_price", "exposure",
        "unrealised_pnl",
    )  # fmt: skip
    tables.append(
        Table(
            title="Open positions",
            columns=[*map(_words, columns)],
            rows=[[str(row[name]) for name in columns] for row in report.summary["open_positions"]],
            numbers=frozenset(range(4, 8)),
            note="As they are now, whatever the period.",
        )
    )
    return [table for table in tables if table.rows]


def _is_known(report: Report, column: str) -> bool:
    """Not a cost of which the report knows nothing."""
    return report.summary["costs"].get(column, "") is not None


def trade_table(report: Report) -> Table:
    """The newest trades, newest first."""
    named = (
        "exited_at", "instrument", "strategy", "direction", "quantity", "entry_price",
        "exit_price", "net", "fees", "slippage", "funding", "exit_reason",
    )  # fmt: skip
    columns = [name for name in named if _is_known(report, name)]
    newest = report.trades(newest=MOST_TRADES)[::-1]
    count = len(report.record.trades)
    return Table(
        title="Trades",
        columns=[*map(_words, columns)],
        rows=[[_cell(name, row[name]) for name in columns] for row in newest],
        numbers=frozenset(range(4, len(columns) - 1)),
        note=(
            f"The newest {MOST_TRADES:,} of {count:,}; the JSON of this report has all."
            if count > MOST_TRADES
            else ""
        ),
    )


def figure(value: float | int | None, kind: str) -> str:
    """A metric as people read it; a dash where it is not defined."""
    if value is None:
        return NONE
    forms = {SHARE: "{:,.2%}", AMOUNT: "{:,.2f}", COUNT: "{:,}", DAYS: "{:,.1f} d",
             HOURS: "{:,.1f} h", NUMBER: "{:,.3f}"}  # fmt: skip
    return forms[kind].format(value)


def _cell(name: str, value: Any) -> str:
    if name == "exited_at":
        return str(value)[:16].replace("T", " ")
    if name in {"net", "fees", "slippage", "funding"}:
        return f"{float(value):,.2f}"
    return f"{value:,.8g}" if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    return WORDS.get(name, name.replace("_", " "))
