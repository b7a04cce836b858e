"""What is kept of a backtest's run beside its figures: its trades and marks, as a report has them.

A run of years has tens of thousands of marks; kept are those that draw the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from collectors.marketdata import from_ms
from trading.backtest import Outcome
from trading.fields import from_units
from trading.models import Backtest
from trading.orders import MONEY_UNITS
from trading.performance import DAY_MS, RoundTrip
from trading.reports.curves import telling_rows
from trading.track_record import Exact, Period

MOST_MARKS = 4_000  # and the last of each day
TRADE_COLUMNS = (
    "instrument", "direction", "quantity", "entry_price", "exit_price", "pnl", "fees",
    "entered_at", "exited_at", "exit_reason", "funding",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BacktestRecord(Period):
    """A run from `start` to `end`: its N closed trades, oldest first, M marks, and what was held
    at its end."""

    timeframe: str
    initial_capital: Decimal
    instruments: list[str]  # all that it ran on, the most traded first
    times: list[int]  # (M,) epoch milliseconds
    marks: NDArray[np.float64]  # (M,) equity
    benchmark: NDArray[np.float64] | None  # (M,)
    held: list[dict[str, Any]]

    @classmethod
    def of(cls, backtest: Backtest) -> Self:
        """Of a backtest's row. Raises ValueError for one of which no record was kept."""
        kept = backtest.record
        if not kept:
            raise ValueError("no record of this run was kept: run it again")
        # Records from before funding was booked lack its column, the last one.
        trades = [
            RoundTrip(
                strategy=backtest.strategy_name, **dict(zip(TRADE_COLUMNS, row, strict=False))
            )
            for row in kept["trades"]
        ]
        counts = dict.fromkeys(backtest.instruments, 0)
        for trade in trades:
            counts[trade.instrument] += 1
        return cls(
            start=backtest.start_date,
            end=backtest.end_date,
            timeframe=backtest.timeframe,
            initial_capital=backtest.initial_capital,
            instruments=sorted(counts, key=lambda coin_id: (-counts[coin_id], coin_id)),
            trades=trades,
            times=kept["times"],
            marks=np.array(kept["equity"], dtype=np.float64),
            benchmark=np.array(kept["benchmark"], dtype=np.float64),
            held=kept["held"],
        )

    @property
    def exact(self) -> list[Exact]:
        """The trades' money in units: the doubles that are kept came from just these."""
        return [
            Exact(
                quantity=f"{Decimal(repr(trade.quantity)):f}",
                pnl=round(trade.pnl * MONEY_UNITS),
                fees=round(trade.fees * MONEY_UNITS),
                slippage=None,
                funding=round(trade.funding * MONEY_UNITS),
                entered_at=from_ms(trade.entered_at),
                exited_at=from_ms(trade.exited_at),
            )
            for trade in self.trades
        ]


def record_of(
    outcome: Outcome,
    *,
    times: Sequence[int],
    equity: Sequence[float],
    benchmark: NDArray[np.float64],
    strategy: str,
) -> dict[str, Any]:
    """What of a run goes into its row, as JSON; `equity` and `benchmark` (B,) are at `times`."""
    rows = _kept_rows(times, equity, benchmark)
    return {
        "trades": [[getattr(trade, name) for name in TRADE_COLUMNS] for trade in outcome.trades],
        "times": [times[row] for row in rows],
        "equity": [equity[row] for row in rows],
        "benchmark": [round(float(benchmark[row]), 8) for row in rows],
        "held": _held(outcome, strategy),
    }


def _kept_rows(
    times: Sequence[int], equity: Sequence[float], benchmark: NDArray[np.float64]
) -> list[int]:
    if not times:
        return []
    days = (np.asarray(times, dtype=np.int64) - 1) // DAY_MS
    ends = np.flatnonzero(np.append(days[1:] != days[:-1], True))
    telling = telling_rows([np.asarray(equity, dtype=np.float64), benchmark], MOST_MARKS)
    rows: list[int] = np.union1d(ends, telling).tolist()
    return rows


def _held(outcome: Outcome, strategy: str) -> list[dict[str, Any]]:
    rows = []
    for holding in outcome.open_holdings:
        coin_id, grid = holding.coin_id, holding.grid
        ticks = outcome.marks[coin_id]
        rows.append(
            {
                "instrument": coin_id,
                "strategy": strategy,
                "direction": "LONG" if holding.direction > 0 else "SHORT",
                "quantity": grid.quantity_text(holding.quantity),
                "total_cost": f"{from_units(holding.total_cost):f}",
                "mark_price": grid.price_text(ticks),
                "exposure": f"{from_units(holding.exposure(ticks)):f}",
                "unrealised_pnl": f"{from_units(holding.unrealised(ticks)):f}",
                "stop_loss": None if math.isnan(holding.stop_loss) else holding.stop_loss,
                "take_profit": None if math.isnan(holding.take_profit) else holding.take_profit,
                "entered_at": from_ms(outcome.open_since[coin_id]).isoformat(),
            }
        )
    return rows
