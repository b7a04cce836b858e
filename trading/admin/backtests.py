"""Backtests in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from unfold.decorators import action

from collectors.admin.records import RecordAdmin
from trading.admin.accounts import NEW_TAB
from trading.models import Backtest
from trading.reports.content import make_backtest_report
from trading.reports.page import page_response


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
    actions_detail = ["report"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Backtest]:
        """Without what only the report reads."""
        found: QuerySet[Backtest] = super().get_queryset(request)
        return found.defer("record")

    @action(description="Report", permissions=["view"], attrs=NEW_TAB)  # type: ignore[untyped-decorator]
    def report(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """How its run went, as a page of its own; until it is done there is none."""
        backtest: Any = get_object_or_404(Backtest, pk=object_id)
        try:
            return page_response(make_backtest_report(backtest=backtest))
        except ValueError as error:
            messages.warning(request, str(error))
            address = reverse("admin:trading_backtest_change", args=[backtest.pk])
            return HttpResponseRedirect(address)
