"""Closed trades and what they came to, in all and by group. Pure.

A trade wins or loses by its net: the profit after the fees of both sides and with its funding.
Amounts are quote units. What is undefined is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Attribute = Literal["strategy", "instrument", "exit_reason"]
HOUR_MS = 3_600_000


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """A closed trade. Amounts in quote units; times in epoch milliseconds.

    `pnl` is what the prices of its fills made, before fees: `slippage`, what the fills lost against
    their reference prices, is in it already and is told for itself only. `fees` are those of both
    sides; `funding` is what came in while it was held, negative where it was paid.
    """

    instrument: str
    strategy: str
    direction: int
    quantity: float
    entry_price: float
    exit_price: float
    pnl: float
    fees: float
    entered_at: int
    exited_at: int
    exit_reason: str
    slippage: float = 0.0
    funding: float = 0.0

    @property
    def net(self) -> float:
        """What the trade brought: profit less fees, with funding."""
        return self.pnl - self.fees + self.funding


@dataclass(frozen=True, kw_only=True)
class TradeColumns:
    """N trades as columns."""

    net: Floats  # (N,)
    pnl: Floats
    fees: Floats
    slippage: Floats
    funding: Floats
    worth: Floats  # at the price of entry, never negative
    notional: Floats  # of entry and exit together
    entered: NDArray[np.int64]  # epoch milliseconds
    exited: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> TradeColumns:
        """The trades at these positions."""
        return TradeColumns(**{name: getattr(self, name)[rows] for name in vars(self)})


def trade_columns(trades: Sequence[RoundTrip]) -> TradeColumns:
    """The trades' amounts and holding times."""
    rows = np.array(
        [
            (each.pnl, each.fees, each.slippage, each.funding, each.quantity,
             each.entry_price, each.exit_price)
            for each in trades
        ],
        dtype=np.float64,
    ).reshape(-1, 7)  # fmt: skip
    pnl, fees, slippage, funding, quantity, entry, leave = np.ascontiguousarray(rows.T)
    return TradeColumns(
        net=pnl - fees + funding,
        pnl=pnl,
        fees=fees,
        slippage=slippage,
        funding=funding,
        worth=np.abs(quantity) * entry,
        notional=np.abs(quantity) * (entry + leave),
        entered=np.array([each.entered_at for each in trades], dtype=np.int64),
        exited=np.array([each.exited_at for each in trades], dtype=np.int64),
    )


def trade_figures(columns: TradeColumns) -> dict[str, float | int | None]:
    """Counts, shares and amounts of some trades; losses are positive amounts.

    A trade that came to exactly nothing neither wins nor loses, but counts.
    """
    count = len(columns.net)
    wins = columns.net[columns.net > 0.0]
    losses = -columns.net[columns.net < 0.0]
    won, lost = total(wins), total(losses)
    return {
        "trade_count": count,
        "win_count": len(wins),
        "loss_count": len(losses),
        "win_rate": len(wins) / count if count else None,
        "profit_factor": won / lost if lost > 0.0 else None,
        "expectancy": total(columns.net) / count if count else None,
        "average_win": won / len(wins) if len(wins) else None,
        "average_loss": lost / len(losses) if len(losses) else None,
        "largest_win": float(wins.max()) if len(wins) else None,
        "largest_loss": float(losses.max()) if len(losses) else None,
        "average_holding_hours": (
            int((columns.exited - columns.entered).sum()) / count / HOUR_MS if count else None
        ),
    }


def by_group(
    trades: Sequence[RoundTrip], attribute: Attribute, columns: TradeColumns | None = None
) -> Mapping[str, Mapping[str, Any]]:
    """The figures of the trades by strategy, instrument or reason of exit, in order of the names.

    Beside those of `trade_figures`: `net`, and the `pnl`, `fees`, `slippage` and `funding` that it
    is made of. `columns` are those of `trades`, for who has them already.
    """
    if not trades:
        return {}
    table = trade_columns(trades) if columns is None else columns
    groups: dict[str, Mapping[str, Any]] = {}
    for name, rows in group_rows(trades, attribute).items():
        chosen = table.take(rows)
        amounts = {
            each: total(getattr(chosen, each))
            for each in ("net", "pnl", "fees", "slippage", "funding")
        }
        groups[name] = {**trade_figures(chosen), **amounts}
    return groups


def group_rows(trades: Sequence[RoundTrip], attribute: Attribute) -> dict[str, NDArray[np.int64]]:
    """The positions of the trades of each group, in order of the groups' names."""
    names, groups = np.unique(
        np.array([getattr(each, attribute) for each in trades], dtype=np.str_), return_inverse=True
    )
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.searchsorted(groups[order], np.arange(1, len(names))))
    return dict(zip(names.tolist(), parts, strict=False))


def total(amounts: Floats) -> float:
    """The sum, correctly rounded, so that it does not depend on the order of the trades."""
    return math.fsum(amounts.tolist())
