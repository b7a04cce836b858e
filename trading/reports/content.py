"""What a report says: `{execution_summary, performance_metrics, trades}` as JSON can carry it.

Decimals are strings, times ISO 8601 in UTC, doubles numbers; what is undefined is null.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import msgspec
from django.conf import settings
from numpy.typing import NDArray

from collectors import clock
from collectors.models import Instrument
from risk.selectors import state_in_force
from trading.backtest_record import BacktestRecord
from trading.models import Backtest
from trading.orders import MONEY_UNITS
from trading.performance import RoundTrip, by_group
from trading.reports.curves import monthly_returns
from trading.roundtrips import TradeColumns
from trading.selectors import holding_of, marks_at, open_positions, position_json
from trading.track_record import Exact, TrackRecord, read_record

HOUR_MS = 3_600_000


class Record(Protocol):
    """What charts are drawn from, of an account or of a backtest: the N trades and the M marks of
    a period. `timeframe` is the shortest whose candles tell something of the trades."""

    @property
    def start(self) -> datetime: ...
    @property
    def end(self) -> datetime: ...
    @property
    def start_ms(self) -> int: ...
    @property
    def end_ms(self) -> int: ...
    @property
    def timeframe(self) -> str: ...
    @property
    def initial_capital(self) -> Any: ...
    @property
    def trades(self) -> Sequence[RoundTrip]: ...
    @property
    def exact(self) -> Sequence[Exact]: ...
    @property
    def columns(self) -> TradeColumns: ...
    @property
    def instruments(self) -> list[str]: ...
    @property
    def times(self) -> Sequence[int]: ...
    @property
    def marks(self) -> NDArray[Any]: ...
    @property
    def benchmark(self) -> NDArray[Any] | None: ...


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content, and the record that its charts are drawn from.

    `name` is of whom it tells, `traded` where and after what that traded, both in words.
    """

    name: str
    traded: str
    record: Record
    summary: dict[str, Any]
    metrics: dict[str, Any]
    sectors: dict[str, str]  # of the instruments, by coin id

    def trades(self, newest: int | None = None) -> list[dict[str, Any]]:
        """The closed trades, oldest first; only the newest so many where a number is given."""
        return _trades(self.record, max(len(self.record.trades) - newest, 0) if newest else 0)

    def content(self) -> dict[str, Any]:
        """As the JSON file has it."""
        return {
            "execution_summary": self.summary,
            "performance_metrics": self.metrics,
            "trades": self.trades(),
        }


def make_report(
    *, account_id: int, start: datetime | None = None, end: datetime | None = None
) -> Report:
    """The report of (start, end], market time, of the account's life by default.

    Raises Account.DoesNotExist, ValueError for a period that ends before it begins.
    """
    record = read_record(account_id=account_id, start=start, end=end)
    account = record.account
    followed = ", ".join(account.subscriptions)
    return Report(
        name=account.name,
        traded=f"at {account.exchange}" + (f", following {followed}" if followed else ""),
        record=record,
        summary=_summary(record),
        metrics={
            **record.metrics,
            "by_strategy": by_group(record.trades, "strategy", record.columns),
            "by_instrument": by_group(record.trades, "instrument", record.columns),
            "by_exit_reason": by_group(record.trades, "exit_reason", record.columns),
            "monthly_returns": _months(record),
        },
        sectors=_sectors(record),
    )


def make_backtest_report(*, backtest: Backtest) -> Report:
    """The report of a backtest that is done. Raises ValueError when there is none of it."""
    record = BacktestRecord.of(backtest)
    kept = {name: value for name, value in backtest.metrics.items() if name != "daily_equity"}
    sectors = _sectors(record)
    return Report(
        name=f"backtest {backtest.pk}",
        traded=f"{backtest.strategy_name} on {', '.join(record.instruments)}",
        record=record,
        summary={
            "backtest": {
                "id": backtest.pk,
                "strategy_name": backtest.strategy_name,
                "instruments": backtest.instruments,
                "timeframe": backtest.timeframe,
                "parameters": backtest.parameters,
                "revisions": backtest.revisions,
            },
            "start": record.start.isoformat(),
            "end": record.end.isoformat(),
            "generated_at": clock.wall_now().isoformat(),
            "initial_capital": f"{backtest.initial_capital:f}",
            "final_equity": f"{backtest.final_value:f}",
            "risk_free_rate": settings.ENV.risk_free_rate,
            "fill_count": kept["fill_count"],
            "trade_count": len(record.trades),
            "costs": {
                name: None if kept[f"{name}_paid"] is None else f"{kept[f'{name}_paid']:.8f}"
                for name in ("fees", "slippage", "funding")
            },
            "benchmark": {"name": "buy_and_hold", "instruments": record.instruments},
            "open_positions": [
                {**row, "sector": sectors.get(row["instrument"], "")} for row in record.held
            ],
        },
        metrics={**kept, "monthly_returns": _months(record)},
        sectors=sectors,
    )


def _sectors(record: Record) -> dict[str, str]:
    chosen = Instrument.objects.filter(coin_id__in=record.instruments)
    return dict(chosen.values_list("coin_id", "sector"))


def content_text(content: dict[str, Any]) -> str:
    """The content as JSON text with a line for each trade: indented all the way, tens of thousands
    of trades would take seconds and most of the file."""
    rest = {name: value for name, value in content.items() if name != "trades"}
    lines = b",\n    ".join(map(msgspec.json.encode, content["trades"])).decode()
    head = json.dumps(rest, indent=2, allow_nan=False).removesuffix("\n}")
    return f'{head},\n  "trades": [\n    {lines}\n  ]\n}}\n'


def _summary(record: TrackRecord) -> dict[str, Any]:
    account, costs = record.account, record.costs
    held = record.instruments if record.benchmark is not None else []
    return {
        "account": {
            "id": account.pk,
            "name": account.name,
            "exchange": account.exchange,
            "timeframe": account.timeframe,
            "subscriptions": account.subscriptions,
            "trading_state": state_in_force(profile=account.profile).state,
            "is_active": account.is_active,
        },
        "start": record.start.isoformat(),
        "end": record.end.isoformat(),
        "generated_at": clock.wall_now().isoformat(),
        "initial_capital": f"{record.initial_capital:f}",
        "final_equity": f"{record.equity[-1] if record.equity else record.initial_capital:f}",
        "cash": f"{account.cash:f}",
        "risk_free_rate": settings.ENV.risk_free_rate,
        "fill_count": costs.fill_count,
        "trade_count": len(record.trades),
        "costs": {
            "fees": f"{costs.fees:.8f}",
            "slippage": f"{costs.slippage:.8f}",
            "funding": f"{costs.funding:.8f}",
        },
        "benchmark": {"name": "buy_and_hold", "instruments": held},
        "open_positions": _positions(record),
    }


def _positions(record: TrackRecord) -> list[dict[str, Any]]:
    """What is held now, whatever the period."""
    rows = open_positions(account_id=record.account.pk)
    marks = marks_at(
        holdings=[holding_of(position=row) for row in rows],
        timeframe=record.account.timeframe,
        bar=None,
    )
    return [
        {
            **position_json(row, mark_ticks=marks[row.instrument.coin_id]),
            "sector": row.instrument.sector,
        }
        for row in rows
    ]


def _months(record: Record) -> list[dict[str, Any]]:
    months = monthly_returns(
        times=record.times, equity=record.marks, initial_capital=float(record.initial_capital)
    )
    return [{"month": f"{year}-{month:02}", "return": change} for year, month, change in months]


def _trades(record: Record, first: int) -> list[dict[str, Any]]:
    return [
        {
            "instrument": trade.instrument,
            "strategy": trade.strategy,
            "direction": "long" if trade.direction > 0 else "short",
            "quantity": books.quantity,
            "entry_price": trade.entry_price,
            "exit_price": trade.exit_price,
            "pnl": _money(books.pnl),
            "fees": _money(books.fees),
            "slippage": None if books.slippage is None else _money(books.slippage),
            "funding": None if books.funding is None else _money(books.funding),
            "net": _money(books.pnl - books.fees + (books.funding or 0)),
            "entered_at": books.entered_at.isoformat(),
            "exited_at": books.exited_at.isoformat(),
            "holding_hours": (trade.exited_at - trade.entered_at) / HOUR_MS,
            "exit_reason": trade.exit_reason,
        }
        for trade, books in zip(record.trades[first:], record.exact[first:], strict=True)
    ]


def _money(units: int) -> str:
    """The decimal of an amount; through Decimal, that of many trades would take twice as long."""
    whole, part = divmod(abs(units), MONEY_UNITS)
    return f"{'-' if units < 0 else ''}{whole}.{part:08}"
