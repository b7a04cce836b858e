"""The trading state of a profile or the desk: every change a row, written by one function."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from collectors import clock
from risk.events import trading_state_changed
from risk.models import (
    Desk,
    RiskProfile,
    StateCause,
    TradingState,
    TradingStateChange,
)


def check_switch(*, state: str, reason: str) -> None:
    """Raises ValidationError for an unknown trading state or a missing reason."""
    if state not in TradingState.values:
        raise ValidationError({"state": f"one of {', '.join(TradingState.values)}"})
    if not reason.strip():
        raise ValidationError({"reason": "say why"})


def record_state(
    *,
    owner: RiskProfile | Desk,
    state: str,
    cause: str,
    reason: str,
    by: str = "",
    details: Mapping[str, Any] | None = None,
    is_told: bool = True,
) -> TradingStateChange:
    """Put a profile, or the desk, into a trading state, and write the row that says why.

    Runs in the caller's transaction, which holds the owner's row. A change by staleness moves
    only between active and reducing, and leaves the owner's own state. With `is_told` false the
    caller tells of it (`tell_change`).
    """
    wall = clock.wall_now()
    before = owner.trading_state
    if cause == StateCause.STALENESS:
        before = TradingState.REDUCING if state == TradingState.ACTIVE else TradingState.ACTIVE
    else:
        owner.trading_state = state
        owner.state_reason = reason.strip()[:200]
        owner.state_changed_by = by[:150] or cause
        owner.state_changed_at = wall
        owner.save(
            update_fields=["trading_state", "state_reason", "state_changed_by", "state_changed_at"]
        )
    change = TradingStateChange.objects.create(
        profile=owner if isinstance(owner, RiskProfile) else None,
        from_state=before,
        to_state=state,
        cause=cause,
        reason=reason.strip()[:200],
        by=by[:150],
        details=dict(details or {}),
        at=wall,
        market_time=clock.current().market(wall),
    )
    if is_told:
        tell_change(change)
    return change


def tell_change(change: TradingStateChange) -> None:
    """Tell downstream of a change once it is committed."""
    transaction.on_commit(
        partial(trading_state_changed.send_robust, sender=TradingStateChange, change_id=change.pk),
        robust=True,
    )
