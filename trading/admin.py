"""The books in the admin. What was written by trading is read only; accounts can be adjusted."""

from functools import partial
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action

from collectors.admin.records import RecordAdmin
from trading.heatpage import show_heat
from trading.models import (
    Account,
    Backtest,
    EquityPoint,
    ExecutionAttempt,
    Fill,
    LedgerEntry,
    Order,
    OutsideTurn,
    PendingSignal,
    Position,
    Trade,
)
from trading.reports.content import make_report
from trading.reports.page import page_response
from trading.services import update_account
from trading.switchpage import show_switch

NEW_TAB = {"target": "_blank"}


@admin.register(Account)
class AccountAdmin(ModelAdmin):  # type: ignore[misc]
    """What an account follows may be changed here; its money never."""

    list_display = ["name", "exchange", "cash", "high_water_mark", "is_active", "processed_bar"]
    list_filter = ["is_active", "exchange"]
    search_fields = ["name"]
    readonly_fields = [
        "name",
        "profile",
        "exchange",
        "timeframe",
        "latency_ms",
        "is_pyramiding",
        "initial_capital",
        "cash",
        "high_water_mark",
        "day_start_equity",
        "day",
        "processed_bar",
        "created_at",
    ]

    actions_detail = ["report", "trading_state"]

    @action(description="Report", permissions=["view"], attrs=NEW_TAB)  # type: ignore[untyped-decorator]
    def report(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """How the account did until now, as a page of its own."""
        return page_response(make_report(account_id=get_object_or_404(Account, pk=object_id).pk))

    @action(description="Trading state", permissions=["view"], url_path="trading-state")  # type: ignore[untyped-decorator]
    def trading_state(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """The way to the switches."""
        return HttpResponseRedirect(reverse("admin:trading_switch"))

    def get_urls(self) -> list[Any]:
        """The heat map and the switches besides the pages of the rows."""
        heat = partial(show_heat, model_admin=self)
        switch = partial(show_switch, model_admin=self)
        return [
            path("heat/", self.admin_site.admin_view(heat), name="trading_heat"),
            path("switch/", self.admin_site.admin_view(switch), name="trading_switch"),
            *super().get_urls(),
        ]

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        """Through the service: a whole save would write back money that has moved since."""
        update_account(account_id=obj.pk, subscriptions=obj.subscriptions, is_active=obj.is_active)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Order)
class OrderAdmin(RecordAdmin):
    """Orders as they were executed."""

    list_display = ["at", "account", "symbol", "side", "leg", "quantity_steps", "status"]
    list_filter = ["leg", "side", "status", "account", "exchange"]
    search_fields = ["symbol", "instrument__coin_id"]
    list_select_related = ["account"]


@admin.register(ExecutionAttempt)
class ExecutionAttemptAdmin(RecordAdmin):
    """How the executions of signals and orders went."""

    list_display = ["at", "account", "outcome", "signal", "order", "error", "duration_ms"]
    list_filter = ["outcome", "account"]
    search_fields = ["error"]
    list_select_related = ["account", "signal", "order"]
    date_hierarchy = "at"


@admin.register(Fill)
class FillAdmin(RecordAdmin):
    """Fills with the quote that they met."""

    list_display = [
        "at",
        "account",
        "order",
        "price_ticks",
        "quantity_steps",
        "fee",
        "realised_pnl",
    ]
    list_filter = ["account", "order__side", "order__leg"]
    search_fields = ["order__symbol"]
    list_select_related = ["account", "order"]
    date_hierarchy = "at"


@admin.register(LedgerEntry)
class LedgerEntryAdmin(RecordAdmin):
    """Every movement of cash."""

    list_display = ["transaction", "account", "book", "amount"]
    list_filter = ["book", "transaction__kind", "account"]
    search_fields = ["account__name", "transaction__key"]
    list_select_related = ["account", "transaction"]


@admin.register(Position)
class PositionAdmin(RecordAdmin):
    """What is held."""

    list_display = ["account", "instrument", "quantity_steps", "total_cost", "realised_pnl"]
    list_filter = ["account"]
    search_fields = ["instrument__coin_id"]
    list_select_related = ["account", "instrument"]


@admin.register(PendingSignal)
class PendingSignalAdmin(RecordAdmin):
    """What waits for a quote."""

    list_display = ["account", "instrument", "signal"]
    list_filter = ["account"]
    search_fields = ["instrument__coin_id"]
    list_select_related = ["account", "instrument", "signal"]


@admin.register(OutsideTurn)
class OutsideTurnAdmin(RecordAdmin):
    """What became of signals from outside at an account."""

    list_display = ["at", "account", "signal", "result"]
    list_filter = ["result", "account"]
    list_select_related = ["account", "signal"]


@admin.register(Trade)
class TradeAdmin(RecordAdmin):
    """Closed round trips."""

    list_display = [
        "exited_at",
        "account",
        "instrument",
        "strategy",
        "direction",
        "pnl",
        "fees",
        "exit_reason",
    ]
    list_filter = ["exit_reason", "strategy", "account"]
    search_fields = ["instrument__coin_id", "strategy"]
    list_select_related = ["account", "instrument"]
    date_hierarchy = "exited_at"


@admin.register(EquityPoint)
class EquityPointAdmin(RecordAdmin):
    """What the account was worth at each bar's close."""

    list_display = ["at", "account", "equity", "cash", "gross_exposure"]
    list_filter = ["account"]
    search_fields = ["account__name"]
    list_select_related = ["account"]
    date_hierarchy = "at"


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
