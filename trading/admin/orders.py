"""Orders in the admin, with their fills and how their executions went."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from collectors.access import may_trade
from collectors.admin.records import RecordAdmin
from trading.admin.words import grid_of, link, table, told_filled, told_prices
from trading.models import (
    ExecutionAttempt,
    Fill,
    Order,
    OrderStatus,
    OutsideTurn,
    PendingSignal,
)
from trading.services import cancel_working_order


@admin.register(Order)
class OrderAdmin(RecordAdmin):
    """Orders: what they wait for, and how much of them is done."""

    list_display = [
        "at", "account", "symbol", "side", "leg", "kind_word", "prices", "filled", "state",
        "reason",
    ]  # fmt: skip
    list_filter = ["status", "kind", "leg", "side", "account", "exchange"]
    search_fields = ["symbol", "instrument__coin_id", "reason", "placed_by"]
    list_select_related = ["account"]
    date_hierarchy = "at"
    actions = ["cancel"]
    readonly_fields = ["prices", "filled", "fills"]

    @admin.display(description="kind", ordering="kind")
    def kind_word(self, order: Order) -> str:
        """Without its explanation."""
        return order.kind.replace("_", " ")

    @admin.display(description="status", ordering="status")
    def state(self, order: Order) -> str:
        """Without its explanation."""
        return order.status

    @admin.display(description="waits for")
    def prices(self, order: Order) -> str:
        """What it waits for."""
        return told_prices(order)

    @admin.display(description="filled")
    def filled(self, order: Order) -> str:
        """How much of it is done."""
        return told_filled(order)

    @admin.display(description="fills")
    def fills(self, order: Order) -> SafeString:
        """What it got."""
        grid = grid_of(order)
        rows = [
            (
                link("trading_fill_change", f"{fill.at:%Y-%m-%d %H:%M:%S}", fill.pk),
                grid.quantity_text(fill.quantity_steps), grid.price_text(fill.price_ticks),
                fill.liquidity, fill.fee, fill.realised_pnl,
            )
            for fill in order.fills.all()
        ]  # fmt: skip
        return table(("At", "Quantity", "Price", "As", "Fee", "Realised"), rows, empty="none")

    @admin.action(description="Cancel the working orders", permissions=["trade"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Order]) -> None:
        """Cancel those that still work; the others have ended already."""
        reason = f"cancelled by {request.user.get_username()}"
        working = queryset.filter(status=OrderStatus.WORKING).values_list("pk", flat=True)
        ended = [cancel_working_order(order_id=pk, reason=reason) for pk in list(working)]
        cancelled = sum(order.status == OrderStatus.CANCELLED for order in ended)
        messages.success(request, f"{cancelled} of {queryset.count()} orders cancelled")

    def has_trade_permission(self, request: HttpRequest) -> bool:
        """Rows are read only; a trader who may change orders here cancels them."""
        return may_trade(request.user) and request.user.has_perm("trading.change_order")


@admin.register(Fill)
class FillAdmin(RecordAdmin):
    """Fills with the quote that they met."""

    list_display = [
        "at", "account", "symbol", "side", "leg", "quantity", "price", "liquidity", "fee",
        "slippage", "realised_pnl",
    ]  # fmt: skip
    list_filter = ["account", "order__side", "order__leg", "liquidity"]
    search_fields = ["order__symbol"]
    list_select_related = ["account", "order"]
    date_hierarchy = "at"
    readonly_fields = ["quantity", "price"]

    @admin.display(ordering="order__symbol")
    def symbol(self, fill: Fill) -> str:
        """The order's."""
        return fill.order.symbol

    @admin.display(ordering="order__side")
    def side(self, fill: Fill) -> str:
        """The order's."""
        return fill.order.side

    @admin.display(ordering="order__leg")
    def leg(self, fill: Fill) -> str:
        """The order's."""
        return fill.order.leg

    def quantity(self, fill: Fill) -> str:
        """In base units."""
        return grid_of(fill.order).quantity_text(fill.quantity_steps)

    def price(self, fill: Fill) -> str:
        """In quote units."""
        return grid_of(fill.order).price_text(fill.price_ticks)


@admin.register(ExecutionAttempt)
class ExecutionAttemptAdmin(RecordAdmin):
    """How executions of signals and orders went; those that failed changed nothing."""

    list_display = ["at", "account", "signal", "order", "outcome", "error", "took"]
    list_filter = ["outcome", "account"]
    search_fields = ["error"]
    list_select_related = ["account", "order", "signal__instrument"]
    date_hierarchy = "at"

    @admin.display(description="took", ordering="duration_ms")
    def took(self, attempt: ExecutionAttempt) -> str:
        """How long, in wall time."""
        return f"{attempt.duration_ms:,.0f} ms"


@admin.register(PendingSignal)
class PendingSignalAdmin(RecordAdmin):
    """What waits for a quote."""

    list_display = ["account", "instrument", "signal"]
    list_filter = ["account"]
    search_fields = ["instrument__coin_id"]
    list_select_related = ["account", "instrument", "signal__instrument"]


@admin.register(OutsideTurn)
class OutsideTurnAdmin(RecordAdmin):
    """What became of signals from outside at an account."""

    list_display = ["at", "account", "signal", "result"]
    list_filter = ["result", "account"]
    list_select_related = ["account", "signal__instrument"]
