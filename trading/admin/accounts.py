"""Accounts in the admin: what they hold and are worth now, and what may be changed of them."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import action

from collectors.access import may_trade
from collectors.admin.records import RecordAdmin
from risk.models import Desk, TradingState
from trading.admin.account_form import LIMITS, AccountForm, OpenAccountForm
from trading.admin.place import place_by_form
from trading.admin.words import link, table, told_filled, told_prices, told_state
from trading.heatpage import show_heat
from trading.live import live_account
from trading.models import Account, EquityPoint, Order, OrderStatus
from trading.reports.content import make_report
from trading.reports.page import page_response
from trading.services import update_account
from trading.switchpage import show_switch

NEW_TAB = {"target": "_blank"}
CHANGED_HERE = ("subscriptions", "is_active", "latency_ms", "is_pyramiding")
BOOKS = (
    ("order", "orders"),
    ("fill", "fills"),
    ("position", "positions"),
    ("trade", "trades"),
    ("ledgertransaction", "ledger"),
    ("fundingpayment", "funding"),
    ("equitypoint", "equity"),
    ("executionattempt", "executions"),
)


@admin.register(Account)
class AccountAdmin(ModelAdmin):  # type: ignore[misc]
    """Accounts are opened here, and what they follow may be changed; their money never.

    Whoever does so is kept in the history of the account's page.
    """

    form = AccountForm
    add_form = OpenAccountForm
    add_fieldsets = [
        (None, {"fields": ["name", "initial_capital", "exchange", "subscriptions"]}),
        ("Risk profile", {"fields": list(LIMITS)}),
    ]
    list_display = [
        "name", "exchange", "switch", "cash", "high_water_mark", "is_active",
        "processed_bar",
    ]  # fmt: skip
    list_filter = ["is_active", "exchange"]
    search_fields = ["name"]
    list_select_related = ["profile"]
    fieldsets = [
        (None, {"fields": ["name", "worth", "holds", "waits", "more"]}),
        ("Set here", {"fields": list(CHANGED_HERE)}),
        (
            "Books",
            {
                "fields": [
                    "profile", "exchange", "timeframe", "initial_capital", "cash",
                    "high_water_mark", "day_start_equity", "day", "processed_bar", "created_at",
                ]
            },
        ),
    ]  # fmt: skip
    readonly_fields = [
        "name", "worth", "holds", "waits", "more", "profile", "exchange", "timeframe",
        "initial_capital", "cash", "high_water_mark", "day_start_equity", "day", "processed_bar",
        "created_at",
    ]  # fmt: skip
    actions_detail = ["report", "trading_state", "order_by_hand"]

    @action(description="Report", permissions=["view"], attrs=NEW_TAB)  # type: ignore[untyped-decorator]
    def report(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """How the account did until now, as a page of its own."""
        return page_response(make_report(account_id=get_object_or_404(Account, pk=object_id).pk))

    @action(description="Order by hand", permissions=["trade"], url_path="order")  # type: ignore[untyped-decorator]
    def order_by_hand(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """The form for an order; sent, it is placed or says why not."""
        account = get_object_or_404(Account, pk=object_id)
        answer, form = place_by_form(request, account)
        if answer is not None:
            return answer
        context = {
            **self.admin_site.each_context(request),
            "title": f"Order by hand: {account}",
            "content_title": f"Order by hand: {account}",
            "account": account,
            "form": form,
            "back": reverse("admin:trading_account_change", args=[account.pk]),
        }
        return TemplateResponse(request, "trading/order_by_hand.html", context)

    @action(description="Trading state", permissions=["view"], url_path="trading-state")  # type: ignore[untyped-decorator]
    def trading_state(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """The way to the switches."""
        return HttpResponseRedirect(reverse("admin:trading_switch"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        """With the desk's switch beside each."""
        found: QuerySet[Account] = super().get_queryset(request)
        desk = Desk.objects.filter(pk=Desk.ONLY)
        return found.annotate(
            desk_state=Subquery(desk.values("trading_state")),
            desk_is_stale=Subquery(desk.values("is_stale")),
            desk_staleness=Subquery(desk.values("staleness")),
        )

    @admin.display(description="trading state", ordering="profile__trading_state")
    def switch(self, account: Any) -> str:
        """What rules: the strictest of its own switch, the desk's and staleness."""
        desk = Desk(
            pk=Desk.ONLY,
            trading_state=account.desk_state or TradingState.ACTIVE,
            is_stale=bool(account.desk_is_stale),
            staleness=account.desk_staleness or "",
        )
        return told_state(account.profile, desk)

    @admin.display(description="worth now")
    def worth(self, account: Account) -> SafeString:
        """Marked at the newest quotes."""
        now = self._now(account)
        rows = [
            ("Equity", now["equity"], "Cash", now["cash"]),
            ("Today", now["daily_pnl"], "Since the start", now["total_pnl"]),
            ("Unrealised", now["unrealised_pnl"], "Realised", now["realised_pnl"]),
            ("Exposure", now["gross_exposure"], "Drawdown", f"{now['drawdown']:.2%}"),
            ("Trading", now["trading_state"], "Working orders", now["working_orders"]),
        ]
        return table(("", "", "", ""), rows, empty="")

    @admin.display(description="holds")
    def holds(self, account: Account) -> SafeString:
        """The open positions, marked."""
        rows = [
            (
                row["instrument"], row["direction"], row["quantity"], row["mark_price"],
                row["exposure"], row["unrealised_pnl"], row["stop_loss"] or "none",
                row["take_profit"] or "none",
            )
            for row in self._now(account)["positions"]
        ]  # fmt: skip
        headings = (
            "Instrument", "", "Quantity", "Mark", "Exposure", "Unrealised", "Stop", "Target",
        )  # fmt: skip
        return table(headings, rows, empty="nothing")

    @admin.display(description="waits for")
    def waits(self, account: Account) -> SafeString:
        """The working orders, newest first."""
        working = Order.objects.filter(account=account, status=OrderStatus.WORKING)
        rows = [
            (
                link("trading_order_change", order.symbol, order.pk), order.side, order.leg,
                order.kind, told_prices(order), told_filled(order), f"{order.at:%Y-%m-%d %H:%M}",
            )
            for order in working[:50]
        ]  # fmt: skip
        headings = ("Symbol", "Side", "Leg", "Kind", "At", "Filled", "Since")
        return table(headings, rows, empty="nothing")

    @admin.display(description="more")
    def more(self, account: Account) -> SafeString:
        """Its rows in the other tables."""
        query = f"?account__id__exact={account.pk}"
        links = [(link(f"trading_{name}_changelist", text, query=query),) for name, text in BOOKS]
        links.append(
            (link("risk_riskdecision_changelist", "decisions",
                  query=f"?profile__id__exact={account.profile_id}"),)
        )  # fmt: skip
        return format_html_join(" \N{MIDDLE DOT} ", "{}", links)

    def get_urls(self) -> list[Any]:
        """The heat map and the switches besides the pages of the rows."""
        heat = partial(show_heat, model_admin=self)
        switch = partial(show_switch, model_admin=self)
        return [
            path("heat/", self.admin_site.admin_view(heat), name="trading_heat"),
            path("switch/", self.admin_site.admin_view(switch), name="trading_switch"),
            *super().get_urls(),
        ]

    def get_form(
        self, request: HttpRequest, obj: Account | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """A new account has a form of its own."""
        if obj is None:
            # Not what fields the page shows, which the form knows itself.
            return self.add_form
        return super().get_form(request, obj, change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> Any:
        """Of a new account what it takes to open it."""
        return self.add_fieldsets if obj is None else super().get_fieldsets(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> Any:
        """Of a new account none."""
        return () if obj is None else super().get_readonly_fields(request, obj)

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        """Through the services: a whole save would write back money that has moved since."""
        if not change:
            opened = form.open()
            for field in Account._meta.concrete_fields:
                setattr(obj, field.attname, getattr(opened, field.attname))
            return
        update_account(account_id=obj.pk, **{name: getattr(obj, name) for name in CHANGED_HERE})

    def has_trade_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A trader, who may change accounts here."""
        return may_trade(request.user) and self.has_change_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A trader, as over HTTP."""
        return may_trade(request.user) and bool(super().has_add_permission(request))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def _now(self, account: Account) -> dict[str, Any]:
        """One look for all fields of a page."""
        found: dict[str, Any] | None = getattr(account, "_live", None)
        if found is None:
            found = live_account(account_id=account.pk)
            account._live = found  # type: ignore[attr-defined]
        return found


@admin.register(EquityPoint)
class EquityPointAdmin(RecordAdmin):
    """What the account was worth at each mark."""

    list_display = ["at", "account", "equity", "cash", "gross_exposure"]
    list_filter = ["account"]
    search_fields = ["account__name"]
    list_select_related = ["account"]
    date_hierarchy = "at"
