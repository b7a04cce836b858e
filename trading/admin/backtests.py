"""Backtests in the admin."""

from __future__ import annotations

from django.contrib import admin

from collectors.admin.records import RecordAdmin
from trading.models import Backtest


@admin.register(Backtest)
class BacktestAdmin(RecordAdmin):
    """Backtests and their results."""

    list_display = [
        "strategy_name",
        "start_date",
        "end_date",
        "state",
        "progress_pct",
        "total_return",
        "sharpe_ratio",
        "max_drawdown",
        "trade_count",
    ]
    list_filter = ["state", "strategy_name"]
    search_fields = ["strategy_name"]
