"""The books in the admin, all read only: positions, round trips, ledger and funding."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.http import HttpRequest
from unfold.admin import TabularInline

from collectors.admin.records import RecordAdmin
from signals.models import Direction
from trading.admin.words import grid_of
from trading.fields import from_units
from trading.live import closing_pnl
from trading.models import (
    FundingPayment,
    LedgerEntry,
    LedgerMismatch,
    LedgerTransaction,
    Position,
    RefusedRequest,
    Trade,
)


class HeldFilter(admin.SimpleListFilter):
    """Held or flat."""

    title = "holding"
    parameter_name = "held"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "held"), ("no", "flat")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Position]) -> QuerySet[Position]:
        """The rows that are as chosen."""
        if self.value() == "yes":
            return queryset.exclude(quantity_steps=0)
        return queryset.filter(quantity_steps=0) if self.value() == "no" else queryset


@admin.register(Position)
class PositionAdmin(RecordAdmin):
    """What is held; flat ones stay for their realised result."""

    list_display = [
        "account", "instrument", "quantity", "total_cost", "unrealised", "realised_pnl",
        "stop_loss", "take_profit",
    ]  # fmt: skip
    list_filter = ["account", HeldFilter]
    search_fields = ["instrument__coin_id"]
    list_select_related = ["account", "instrument"]
    readonly_fields = ["quantity", "unrealised"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Position]:
        """With what the live marks are read from, once for a page."""
        rows: QuerySet[Position] = super().get_queryset(request)
        return rows.prefetch_related("instrument__listings")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The page's rows, all marked by one look at the quotes."""
        changelist = super().get_changelist_instance(request)
        rows = list(changelist.result_list)
        marked = closing_pnl(positions=rows)
        for row in rows:
            row.marked_pnl = marked.get(row.pk)
        changelist.result_list = rows
        return changelist

    @admin.display(ordering="quantity_steps")
    def quantity(self, position: Position) -> str:
        """Signed, in base units."""
        return grid_of(position).quantity_text(position.quantity_steps)

    @admin.display(description="unrealised")
    def unrealised(self, position: Position) -> str:
        """What closing it at the newest quote would realise."""
        if not position.quantity_steps:
            return "flat"
        if not hasattr(position, "marked_pnl"):
            position.marked_pnl = closing_pnl(positions=[position]).get(position.pk)  # type: ignore[attr-defined]
        units = position.marked_pnl  # type: ignore[attr-defined]
        return "no quote" if units is None else f"{from_units(units):f}"


@admin.register(Trade)
class TradeAdmin(RecordAdmin):
    """Closed round trips."""

    list_display = [
        "exited_at", "account", "instrument", "strategy", "held", "quantity", "pnl", "fees",
        "funding", "net", "exit_reason",
    ]  # fmt: skip
    list_filter = ["exit_reason", "strategy", "account"]
    search_fields = ["instrument__coin_id", "strategy"]
    list_select_related = ["account", "instrument"]
    date_hierarchy = "exited_at"
    readonly_fields = ["net"]

    @admin.display(ordering="direction")
    def held(self, trade: Trade) -> str:
        """Which way."""
        return Direction(trade.direction).label

    def net(self, trade: Trade) -> Decimal:
        """After fees and funding."""
        return trade.net


class BalancedAdmin(RecordAdmin):
    """A table of the ledger under a line that says what the whole of it comes to."""

    list_before_template = "trading/ledger_balance.html"

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """With the sum over all entries."""
        total = LedgerEntry.objects.aggregate(total=Sum("amount"))["total"] or Decimal(0)
        told = (
            "all entries sum to zero" if total == 0 else f"the ledger DOES NOT BALANCE: {total:f}"
        )
        said = {"balance": f"Of all accounts, {told}.", "is_balanced": total == 0}
        return super().changelist_view(request, {**(extra_context or {}), **said})


class EntryInline(TabularInline):  # type: ignore[misc]
    """Both sides of the transaction."""

    model = LedgerEntry
    fields = ["book", "amount"]
    readonly_fields = ["book", "amount"]
    extra = 0
    hide_title = True
    ordering = ["id"]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(LedgerTransaction)
class LedgerTransactionAdmin(BalancedAdmin):
    """Every movement of money with its entries, and whether they sum to zero."""

    list_display = ["at", "account", "kind", "key", "cash", "balance"]
    list_filter = ["kind", "account"]
    search_fields = ["key", "account__name"]
    list_select_related = ["account"]
    date_hierarchy = "at"
    readonly_fields = ["balance"]
    inlines = [EntryInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerTransaction]:
        """With the entries of a page in one query."""
        rows: QuerySet[LedgerTransaction] = super().get_queryset(request)
        return rows.prefetch_related("entries")

    def cash(self, row: LedgerTransaction) -> Decimal | str:
        """What came in or, negative, went out."""
        return next((each.amount for each in row.entries.all() if each.book == "cash"), "")

    @admin.display(description="balance")
    def balance(self, row: LedgerTransaction) -> str:
        """Whether its entries sum to zero."""
        total = sum((each.amount for each in row.entries.all()), Decimal(0))
        return "sums to zero" if total == 0 else f"DOES NOT BALANCE: {total:f}"


@admin.register(LedgerEntry)
class LedgerEntryAdmin(BalancedAdmin):
    """Every side of every movement."""

    list_display = ["transaction", "account", "book", "amount"]
    list_filter = ["book", "transaction__kind", "account"]
    search_fields = ["account__name", "transaction__key"]
    list_select_related = ["account", "transaction__account"]


@admin.register(LedgerMismatch)
class LedgerMismatchAdmin(RecordAdmin):
    """What a reconciliation found wrong, and since when."""

    list_display = ["first_seen_at", "last_seen_at", "account", "found"]
    list_filter = ["account"]
    search_fields = ["account__name"]
    list_select_related = ["account"]


@admin.register(FundingPayment)
class FundingPaymentAdmin(RecordAdmin):
    """What settlements brought and cost."""

    list_display = [
        "at", "account", "instrument", "quantity", "mark_price", "rate", "amount", "revision",
    ]  # fmt: skip
    list_filter = ["account"]
    search_fields = ["position__instrument__coin_id"]
    list_select_related = ["account", "position__instrument"]
    date_hierarchy = "at"

    @admin.display(ordering="position__instrument__coin_id")
    def instrument(self, payment: FundingPayment) -> str:
        """Of the position."""
        return payment.position.instrument.coin_id

    def quantity(self, payment: FundingPayment) -> str:
        """As held at the funding time, signed, in base units."""
        return grid_of(payment.position).quantity_text(payment.quantity_steps)


@admin.register(RefusedRequest)
class RefusedRequestAdmin(RecordAdmin):
    """What was no order and no question to risk, and why."""

    list_display = ["at", "address", "account", "by", "reason"]
    list_filter = ["account"]
    search_fields = ["reason", "by"]
    list_select_related = ["account"]
    date_hierarchy = "at"
