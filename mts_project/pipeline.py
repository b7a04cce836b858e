"""How far the data has come: the rows of every stage, counted, and when the first arrived."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Min, Model

from alerts.models import Alert, Delivery, DeliveryState
from collectors import clock, selectors
from collectors.models import MacroObservation, Ohlcv
from realtime.models import Event
from risk.models import RiskDecision
from signals.models import BarRun, RunState, Signal
from trading.audits import audit_books
from trading.models import Account, EquityPoint, Fill, LedgerEntry, Position

NEWEST_EVENTS = 8
ACCOUNT = "paper"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One look at the pipeline: rows per stage, and the account's worth."""

    market_time: datetime
    stages: dict[str, int]
    equity: Decimal | None
    open_positions: int
    newest: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FirstArrival:
    """When the first row of a stage was written (wall time); None when there is none."""

    stage: str
    at: datetime | None


@dataclass(frozen=True, kw_only=True)
class LedgerCheck:
    """An account's cash beside the sum of its entries; `mismatches` says what does not agree."""

    account: str
    cash: Decimal
    entries: Decimal
    mismatches: tuple[str, ...]

    @property
    def is_balanced(self) -> bool:
        """Whether cash and positions are exactly what entries and fills make."""
        return not self.mismatches


def progress() -> Progress:
    """Count every stage. A handful of cheap queries: at most once a second is fine."""
    account = Account.objects.filter(name=ACCOUNT).first()
    point = EquityPoint.objects.filter(account=account).order_by("-at").first()
    return Progress(
        market_time=clock.now(),
        stages=stage_counts(live_quotes=live_quotes()),
        equity=None if point is None else point.equity,
        open_positions=Position.objects.filter(account=account).exclude(quantity_steps=0).count(),
        newest=newest_events(),
    )


def stage_counts(*, live_quotes: int) -> dict[str, int]:
    """Rows per stage, in the order in which data flows; the quotes are no rows, and are given."""
    return {
        "candles": Ohlcv.objects.count(),
        "live quotes": live_quotes,
        "macro observations": MacroObservation.objects.count(),
        "bar runs": BarRun.objects.filter(state=RunState.DONE).count(),
        "signals": Signal.objects.count(),
        "decisions": RiskDecision.objects.count(),
        "fills": Fill.objects.count(),
        "ledger entries": LedgerEntry.objects.filter(transaction__kind="fill").count(),
        "alerts": Alert.objects.count(),
        "deliveries": Delivery.objects.filter(state=DeliveryState.SENT).count(),
        "events": Event.objects.count(),
    }


def live_quotes() -> int:
    """How many symbols have best prices from the exchanges' WebSockets now; 0 while Redis is
    away."""
    listed = selectors.book_listings(at=clock.now())
    books = selectors.live_books([(item.exchange, item.symbol) for item in listed])
    return sum(book.best_bid is not None for book in books)


def first_arrivals() -> list[FirstArrival]:
    """The first row of each stage by the wall time that it carries."""
    return [
        FirstArrival(stage=stage, at=_earliest(model, field))
        for stage, model, field in (
            ("candle", Ohlcv, "received_at"),
            ("signal", Signal, "created_at"),
            ("fill", Fill, "recorded_at"),
            ("alert", Alert, "created_at"),
            ("numbered event", Event, "numbered_at"),
        )
    ]


def instruments_with_candles() -> int:
    """How many instruments have at least one candle."""
    return Ohlcv.objects.order_by().values("instrument").distinct().count()


def ledger_checks() -> list[LedgerCheck]:
    """Whether every account's books agree, to the last unit."""
    return [_check_ledger(account) for account in Account.objects.order_by("id")]


def newest_events() -> tuple[str, ...]:
    """The newest numbered events, one line each, newest first."""
    rows = Event.objects.order_by("-seq")[:NEWEST_EVENTS]
    return tuple(f"{row.at:%m-%d %H:%M} {_describe(row.topic, row.data or {})}" for row in rows)


def _earliest(model: type[Model], field: str) -> datetime | None:
    found: datetime | None = model._default_manager.aggregate(first=Min(field))["first"]
    return found


def _check_ledger(account: Account) -> LedgerCheck:
    books = audit_books(account_id=account.pk)
    return LedgerCheck(
        account=account.name,
        cash=books.cash,
        entries=books.entries_total,
        mismatches=books.mismatches,
    )


def _describe(topic: str, data: dict[str, Any]) -> str:
    names = {
        "signals": ("strategy", "asset", "signal_type"),
        "fills": ("side", "quantity", "instrument", "price"),
        "alerts": ("title",),
    }
    words = " ".join(str(data[name]) for name in names.get(topic, ()) if name in data)
    return f"{topic.removesuffix('s'):6} {words}"
