"""The page in the admin that shows where an account's heat lies."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import mark_safe

from risk.metrics import Heat
from risk.selectors import limits_of
from trading.heat import account_heat
from trading.models import Account

# Inside a script element these begin no markup.
ESCAPED = {ord("<"): "\\u003C", ord(">"): "\\u003E", ord("&"): "\\u0026"}


def show_heat(request: HttpRequest, *, model_admin: ModelAdmin[Account]) -> HttpResponse:
    """The page: `account` by name, the first one without. Raises Http404 for an unknown one."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    accounts = {account.name: account for account in Account.objects.select_related("profile")}
    name = request.GET.get("account") or next(iter(accounts), "")
    if name not in accounts and name:
        raise Http404(f"there is no account {name}")
    heat = account_heat(account=accounts[name]) if name else None
    context = {
        **model_admin.admin_site.each_context(request),
        "title": "Heat map",
        "content_title": "Heat map",
        "accounts": list(accounts),
        "account": name,
        "heat": heat,
        **(_drawn(accounts[name], heat) if heat else {}),
    }
    return TemplateResponse(request, "trading/heat.html", context)


def _drawn(account: Account, heat: Heat) -> dict[str, Any]:
    from trading.heatmap import draw_heat  # plotly takes half a second, once, here only

    limits = limits_of(profile=account.profile)
    tables = [
        ("Instrument", heat.by_instrument, limits.max_single_asset),
        ("Sector", heat.by_sector, limits.max_sector),
        ("Direction", heat.by_direction, limits.max_leverage),
    ]
    figure = draw_heat(heat).to_json().translate(ESCAPED) if heat.by_instrument else ""
    tail = heat.tail
    return {
        "figure": mark_safe(figure),
        "tables": [
            (title, [_row(name, share, bound) for name, share in shares.items()])
            for title, shares, bound in tables
        ],
        "gross_pct": 100.0 * heat.gross,
        "weighted_pct": 100.0 * heat.correlation_weighted,
        "confidence_pct": 100.0 * tail.confidence,
        "losses": [
            ("Value at risk, past days", tail.historical_var),
            ("Expected shortfall, past days", tail.historical_shortfall),
            ("Value at risk, normal distribution", tail.parametric_var),
            ("Expected shortfall, normal distribution", tail.parametric_shortfall),
        ],
    }


def _row(name: str, share: float, bound: float) -> dict[str, Any]:
    return {
        "name": name,
        "share_pct": 100.0 * share,
        "limit_pct": 100.0 * bound,
        "used_pct": 100.0 * abs(share) / bound,
    }
