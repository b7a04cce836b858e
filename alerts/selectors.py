"""What is to be told: rows without an alert yet, deliveries that are due, an alert as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet, Value
from django.db.models.fields import CharField
from django.db.models.functions import Cast, Concat, Now

from alerts import rules
from alerts.models import Alert, Delivery, DeliveryState
from collectors import clock
from collectors.marketdata import duration
from risk.models import RiskDecision, TradingStateChange
from signals.models import BarRun, RunState, Signal
from signals.registry import CONSENSUS, TIMEFRAMES
from trading.models import LedgerMismatch, Position, Trade
from trading.selectors import failing_closes, holding_of

# Older rows are history: a first start over old tables tells nobody about them.
RECENT = timedelta(hours=6)
# One failure may be a bar's own; a strategy that goes on failing needs a person.
FAILED_RUNS = 3


def due_drafts() -> Iterator[rules.Draft]:
    """The alerts that recent rows deserve and do not have yet, each source oldest first."""
    since = clock.now() - clock.current().widen(RECENT)
    yield from _signal_drafts(since)
    yield from _refusal_drafts(since)
    yield from _trading_state_drafts()
    yield from _ledger_mismatch_drafts()
    yield from _failing_close_drafts()
    yield from _off_market_drafts(since)
    yield from _failing_strategy_drafts(since)


def due_deliveries() -> QuerySet[Delivery]:
    """The deliveries that wait for somebody: no lease, and their time has come."""
    unheld = Q(leased_until__isnull=True) | Q(leased_until__lte=Now())
    ripe = Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=clock.wall_now())
    return Delivery.objects.filter(unheld, ripe, state=DeliveryState.PENDING).order_by("id")


def alert_json(alert: Alert) -> dict[str, Any]:
    """An alert as the REST API and the WebSocket show it; the time is ISO 8601 UTC."""
    return {
        "id": alert.pk,
        "kind": alert.kind,
        "asset": alert.asset,
        "title": alert.title,
        "at": alert.at.isoformat(),
        "payload": alert_body(alert),
    }


def alert_body(alert: Alert) -> dict[str, Any]:
    """An alert as the transports send it: its payload and its id."""
    return {"id": alert.pk, **alert.payload}


def _signal_drafts(since: datetime) -> Iterator[rules.Draft]:
    signals = _without_alert(
        Signal.objects.filter(strategy=CONSENSUS, at__gte=since).exclude(direction=0), "signal:"
    )
    for signal in signals.select_related("instrument").order_by("at", "pk"):
        draft = rules.signal_alert(
            signal_id=signal.pk,
            asset=signal.instrument.coin_id,
            direction=signal.direction,
            confidence=signal.confidence,
            strategies=rules.supporters(signal.direction, signal.reasons.get("votes", {})),
            price=signal.price,
            position_size=signal.position_size,
            stop_loss=signal.stop_loss,
            take_profit=signal.take_profit,
            at=signal.at,
        )
        if draft is not None:
            yield draft


def _refusal_drafts(since: datetime) -> Iterator[rules.Draft]:
    decisions = _without_alert(
        RiskDecision.objects.filter(is_approved=False, at__gte=since).exclude(
            rejection_reason__in=rules.TRIVIAL_REFUSALS
        ),
        "decision:",
    )
    for decision in decisions.select_related("instrument", "profile").order_by("at", "pk"):
        draft = rules.refusal_alert(
            decision_id=decision.pk,
            asset=decision.instrument.coin_id,
            direction=decision.direction,
            reason=decision.rejection_reason,
            account=decision.profile.name,
            at=decision.at,
        )
        if draft is not None:
            yield draft


def _trading_state_drafts() -> Iterator[rules.Draft]:
    # The switch is thrown in wall time, so its age is judged by it too.
    changes = _without_alert(
        TradingStateChange.objects.filter(at__gte=clock.wall_now() - RECENT), "trading_state:"
    )
    for change in changes.select_related("profile").order_by("pk"):
        yield rules.trading_state_alert(
            change_id=change.pk,
            account=change.profile.name if change.profile else "",
            state=change.to_state,
            cause=change.cause,
            reason=change.reason,
            by=change.by or change.cause,
            at=change.market_time,
        )


def _ledger_mismatch_drafts() -> Iterator[rules.Draft]:
    mismatches = _without_alert(
        LedgerMismatch.objects.filter(first_seen_at__gte=clock.wall_now() - RECENT),
        "ledger_mismatch:",
    )
    for mismatch in mismatches.select_related("account").order_by("pk"):
        yield rules.ledger_mismatch_alert(
            mismatch_id=mismatch.pk,
            account=mismatch.account.name,
            found=mismatch.found,
            at=mismatch.at,
        )


def _failing_close_drafts() -> Iterator[rules.Draft]:
    """What should have been closed and raises, again and again."""
    for row in failing_closes():
        yield rules.failing_close_alert(
            account_id=row.account.pk,
            account=row.account.name,
            signal_id=row.signal.pk,
            asset=row.signal.instrument.coin_id,
            tries=row.tries,
            error=row.error,
            at=clock.now(),
        )


def _off_market_drafts(since: datetime) -> Iterator[rules.Draft]:
    """What is held and not traded, and what was settled for it."""
    held = Position.objects.filter(off_market_since__isnull=False).exclude(quantity_steps=0)
    for position in held.select_related("account", "instrument").order_by("pk"):
        yield rules.off_market_alert(
            position_id=position.pk,
            account=position.account.name,
            asset=position.instrument.coin_id,
            quantity=holding_of(position=position).grid.quantity_text(position.quantity_steps),
            since=position.off_market_since or since,
        )
    settled = Trade.objects.filter(exit_reason="delisted", exited_at__gte=since)
    for trade in _without_alert(settled, "delisted:").select_related("account", "instrument"):
        yield rules.delisted_alert(
            trade_id=trade.pk,
            account=trade.account.name,
            asset=trade.instrument.coin_id,
            quantity=trade.quantity,
            price=trade.exit_price,
            at=trade.exited_at,
        )


def _failing_strategy_drafts(since: datetime) -> Iterator[rules.Draft]:
    """The strategies that failed in each of the newest runs of a timeframe."""
    for timeframe in sorted(TIMEFRAMES):
        newest = (
            BarRun.objects.filter(timeframe=timeframe, state=RunState.DONE)
            .order_by("-bar_open_time")
            .values_list("bar_open_time", "failures")[:FAILED_RUNS]
        )
        runs = list(newest)
        if len(runs) < FAILED_RUNS or runs[0][0] < since:
            continue
        at = runs[0][0] + duration(timeframe)
        for strategy, reason in sorted(runs[0][1].items()):
            if not all(strategy in failures for _, failures in runs):
                continue
            draft = rules.failing_strategy_alert(
                strategy=strategy, reason=reason, runs=FAILED_RUNS, at=at
            )
            if not Alert.objects.filter(key=draft.key).exists():
                yield draft


def _without_alert(rows: QuerySet[Any], prefix: str) -> QuerySet[Any]:
    key = Concat(Value(prefix), Cast(OuterRef("pk"), CharField()))
    return rows.filter(~Exists(Alert.objects.filter(key=key)))
