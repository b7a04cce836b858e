"""What a year of paper trading came to, as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def show_year(result: dict[str, Any]) -> None:
    """Accounts, limits, refusals, state changes and resets."""
    console = Console()
    seconds: dict[str, float] = result["seconds"]
    told = ", ".join(f"{name} {value} s" for name, value in seconds.items())
    accounts = Table(title=f"{result['hours']} hours; {told}")
    columns: Sequence[str] = (
        *("account", "fills", "trades", "cash"),
        *("total_return", "sharpe_ratio", "max_drawdown"),
    )
    for column in columns:
        accounts.add_column(column)
    for name, row in result["accounts"].items():
        accounts.add_row(name, *(_text(row[column]) for column in columns[1:]))
    console.print(accounts)
    limits = Table(title="limits")
    for column in ("limit", "refused", "warned"):
        limits.add_column(column)
    for name, row in result["limits"].items():
        limits.add_row(name, str(row["refused"]), str(row["warned"]))
    console.print(limits)
    console.print("all refusals:", result["refused"])
    console.print("state changes by cause:", result["tripped"])
    for reset in result["resets"][:20]:
        console.print(reset)
    console.print("mismatches:", result["mismatches"] or "none")


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
