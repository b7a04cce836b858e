"""What the admin's first page shows: the account, its curve, the newest rows, freshness."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import OuterRef, Subquery, Sum
from django.http import HttpRequest
from django.template.defaultfilters import pluralize
from django.urls import reverse

from alerts.models import Alert
from collectors import clock
from collectors.marketdata import duration
from collectors.models import Instrument, Ohlcv
from collectors.selectors import budget_today, quality_today
from risk.models import RiskDecision
from risk.selectors import read_desk
from signals.models import Signal
from trading.admin.words import told_state
from trading.models import Account, EquityPoint, Fill, Position

CURVE_POINTS = 240
CURVE_WIDTH, CURVE_HEIGHT = 900, 220
ROWS = 8


def dashboard_context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Fill the admin index for people who may see the trading tables."""
    if not request.user.has_perm("trading.view_account"):
        return context
    now = clock.now()
    account = Account.objects.filter(is_active=True).order_by("id").first()
    points = equity_points(account=account) if account else []
    context.update(
        {
            "has_dashboard": True,
            "market_time": now,
            "clock_speed": settings.ENV.clock_speed,
            "account": account,
            "cards": account_cards(account=account, points=points) if account else [],
            "curve": draw_curve([(point["at"], point["equity"]) for point in points]),
            "signal_rows": newest_signals(),
            "fill_rows": newest_fills(),
            "alert_rows": list(Alert.objects.order_by("-id")[:ROWS]),
            "freshness": freshness(now=now),
            "budget": budget_today(at=now),
            "quality": quality_today(at=now),
            "links": {
                "signals": reverse("admin:signals_signal_changelist"),
                "fills": reverse("admin:trading_fill_changelist"),
                "alerts": reverse("admin:alerts_alert_changelist"),
                "candles": reverse("admin:collectors_ohlcv_changelist"),
                "findings": reverse("admin:collectors_qualityfinding_changelist"),
            },
        }
    )
    return context


def equity_points(*, account: Account) -> list[dict[str, Any]]:
    """The newest equity points, oldest first, at most CURVE_POINTS."""
    newest = EquityPoint.objects.filter(account=account).order_by("-at")
    points = newest.values("at", "equity", "gross_exposure")[:CURVE_POINTS]
    return [dict(point) for point in reversed(points)]


def account_cards(*, account: Account, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures of the first row: title, value, detail and whether it is a loss."""
    equity: Decimal = points[-1]["equity"] if points else account.cash
    exposure: Decimal = points[-1]["gross_exposure"] if points else Decimal(0)
    gain = equity / account.initial_capital - 1
    open_positions = Position.objects.filter(account=account).exclude(quantity_steps=0).count()
    fees = Fill.objects.filter(account=account).aggregate(total=Sum("fee"))["total"] or Decimal(0)
    decisions = RiskDecision.objects.filter(profile=account.profile_id)
    approved = decisions.filter(is_approved=True).count()
    state = told_state(account.profile, read_desk())
    return [
        {
            "title": "Equity",
            "value": f"{equity:,.2f}",
            "detail": f"{gain:+.2%} since the start",
            "is_loss": gain < 0,
        },
        {
            "title": "Cash",
            "value": f"{account.cash:,.2f}",
            "detail": f"{fees:,.2f} paid in fees",
        },
        {
            "title": "Exposure",
            "value": f"{exposure:,.2f}",
            "detail": f"{open_positions} open position{pluralize(open_positions)}",
        },
        {
            "title": "Risk",
            "value": f"{approved} approved",
            "detail": f"{decisions.count() - approved} refused; {state}",
        },
    ]


def draw_curve(points: list[tuple[Any, Decimal]]) -> dict[str, Any] | None:
    """The equity curve as an SVG path in a CURVE_WIDTH x CURVE_HEIGHT box, with its labels.

    None with fewer than two points: there is no curve yet.
    """
    if len(points) < 2:
        return None
    first, last = points[0][0], points[-1][0]
    span = (last - first).total_seconds() or 1.0
    values = [float(value) for _, value in points]
    low, high = min(values), max(values)
    margin = (high - low) * 0.08 or max(abs(high) * 0.001, 0.01)
    low, high = low - margin, high + margin
    corners = [
        (
            (at - first).total_seconds() / span * CURVE_WIDTH,
            (high - value) / (high - low) * CURVE_HEIGHT,
        )
        for (at, _), value in zip(points, values, strict=True)
    ]
    line = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return {
        "width": CURVE_WIDTH,
        "height": CURVE_HEIGHT,
        "line": line,
        "area": f"{line} L{CURVE_WIDTH},{CURVE_HEIGHT} L0,{CURVE_HEIGHT} Z",
        "low": f"{low:,.2f}",
        "high": f"{high:,.2f}",
        "first": first,
        "last": last,
    }


def newest_signals() -> list[Signal]:
    """The newest signals of any strategy."""
    return list(Signal.objects.select_related("instrument").order_by("-at", "-id")[:ROWS])


def newest_fills() -> list[dict[str, Any]]:
    """The newest fills with price and quantity as decimals."""
    fills = Fill.objects.select_related("order__instrument").order_by("-id")[:ROWS]
    return [
        {
            "at": fill.at,
            "asset": fill.order.instrument.coin_id,
            "side": fill.order.side,
            "leg": fill.order.get_leg_display(),
            "quantity": fill.quantity_steps * Decimal(fill.order.quantity_step),
            "price": fill.price_ticks * Decimal(fill.order.tick_size),
            "realised_pnl": fill.realised_pnl,
        }
        for fill in fills
    ]


def freshness(*, now: Any) -> list[dict[str, Any]]:
    """Per enabled instrument, its newest hourly candle, its age and whether that is in time."""
    newest = (
        Ohlcv.objects.filter(instrument=OuterRef("pk"), timeframe="1h")
        .order_by("-open_time")
        .values("open_time", "close", "source")
    )
    instruments = Instrument.objects.filter(is_enabled=True).annotate(
        last_open=Subquery(newest.values("open_time")[:1]),
        last_close=Subquery(newest.values("close")[:1]),
        last_source=Subquery(newest.values("source")[:1]),
    )
    bound = clock.current().widen(2 * duration("1h") + timedelta(minutes=5))
    rows = []
    for instrument in instruments:
        age = None if instrument.last_open is None else now - instrument.last_open
        rows.append(
            {
                "asset": instrument.coin_id,
                "close": instrument.last_close,
                "source": instrument.last_source,
                "open_time": instrument.last_open,
                "is_fresh": age is not None and age <= bound,
            }
        )
    return rows
