"""What the pages say of the books: ticks and steps as prices and quantities, rows as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from risk.models import Desk, RiskProfile
from risk.selectors import state_in_force
from trading.models import Order, Position
from trading.orders import Grid


def grid_of(row: Order | Position) -> Grid:
    """The grid that a row was written on."""
    return Grid.of(row.tick_size, row.quantity_step)


def told_prices(order: Order) -> str:
    """What an order waits for, in quote units."""
    grid = grid_of(order)
    parts = [
        f"{word} {grid.price_text(ticks)}"
        for word, ticks in (
            ("limit", order.limit_ticks),
            ("trigger", order.trigger_ticks),
            ("trail", order.trail_ticks),
        )
        if ticks is not None
    ]
    return ", ".join(parts) or "the market"


def told_filled(order: Order) -> str:
    """How much of an order is done."""
    grid = grid_of(order)
    return f"{grid.quantity_text(order.filled_steps)} of {grid.quantity_text(order.quantity_steps)}"


def told_state(profile: RiskProfile, desk: Desk) -> str:
    """What an account may do, and who holds it back when it is not its own switch."""
    in_force = state_in_force(profile=profile, desk=desk)
    if in_force.is_waiting:
        return f"{in_force.state}: {desk.staleness}"
    is_own = in_force.state == profile.trading_state
    return in_force.state if is_own else f"{in_force.state}, as all accounts"


def link(name: str, text: Any, *args: Any, query: str = "") -> SafeString:
    """A link to a page of the admin."""
    address = reverse(f"admin:{name}", args=args)
    return format_html(
        '<a class="text-primary-600 dark:text-primary-500" href="{}{}">{}</a>', address, query, text
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> SafeString:
    """Rows under headings; `empty` without any."""
    lines = list(rows)
    if not lines:
        return format_html("{}", empty)
    head = format_html_join("", '<th class="pr-4 py-1 text-left">{}</th>', ((h,) for h in headings))
    body = format_html_join(
        "",
        '<tr class="border-t border-base-200 dark:border-base-800">{}</tr>',
        (
            (format_html_join("", '<td class="pr-4 py-1 align-top">{}</td>', ((c,) for c in line)),)
            for line in lines
        ),
    )
    return format_html(
        '<div class="overflow-x-auto" style="max-width: calc(100vw - 4rem)"><table class="text-sm">'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        head,
        body,
    )
