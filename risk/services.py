"""Decisions on requests, each stored with what it was computed from, and the trading state.

A refusal is a row, never an exception. `assess` and `refuse` run inside the caller's transaction,
which holds the lock on the profile's row, so the verdict and what follows from it are one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from collectors import clock
from collectors.models import Instrument
from risk.assessment import Request, Verdict, decide
from risk.events import trading_state_changed
from risk.limits import limit_warnings
from risk.models import RiskDecision, RiskProfile, TradingState
from risk.portfolio import Portfolio
from risk.selectors import LIMIT_NAMES, limits_of
from signals.models import Signal


def assess(
    *,
    profile: RiskProfile,
    portfolio: Portfolio,
    instrument: Instrument,
    request: Request,
    at: datetime,
    signal: Signal | None = None,
    context: Mapping[str, Any] | None = None,
) -> tuple[RiskDecision, Verdict]:
    """Decide on a request and store the decision with every scalar it saw.

    `at` is market time; `context` is recorded beside the inputs (the quote that gave the price).
    One decision per profile and signal: a second one raises IntegrityError.
    """
    started = time.perf_counter()
    standing = portfolio.standing(instrument.coin_id)
    limits = limits_of(profile=profile)
    verdict = decide(request, standing, limits)
    outputs = {**verdict._asdict(), "usage": recordable(verdict.usage._asdict())}
    decision = RiskDecision.objects.create(
        profile=profile,
        signal=signal,
        instrument=instrument,
        direction=request.direction if request.direction in (-1, 0, 1) else 0,
        is_approved=verdict.is_approved,
        rejection_reason=verdict.reason,
        risk_level=verdict.level,
        position_size=verdict.size,
        stop_loss=_finite_or_none(verdict.stop_loss),
        take_profit=_finite_or_none(verdict.take_profit),
        warnings=limit_warnings(verdict.usage, limits),
        inputs={
            **recordable(request._asdict()),
            **recordable(standing._asdict()),
            "cash": portfolio.cash,
            "context": dict(context or {}),
        },
        outputs=recordable(outputs),
        config_snapshot=limits._asdict(),
        at=at,
        processing_time_ms=(time.perf_counter() - started) * 1000.0,
    )
    return decision, verdict


def refuse(
    *,
    profile: RiskProfile,
    instrument: Instrument,
    direction: int,
    reason: str,
    at: datetime,
    signal: Signal | None = None,
    context: Mapping[str, Any] | None = None,
) -> RiskDecision:
    """Store a refusal of what never came to an assessment (no quote, no listing, too late)."""
    return RiskDecision.objects.create(
        profile=profile,
        signal=signal,
        instrument=instrument,
        direction=direction,
        is_approved=False,
        rejection_reason=reason,
        risk_level="low",
        position_size=0.0,
        stop_loss=None,
        take_profit=None,
        inputs={"direction": direction, "context": dict(context or {})},
        outputs={},
        config_snapshot=limits_of(profile=profile)._asdict(),
        at=at,
        processing_time_ms=0.0,
    )


def set_trading_state(*, profile_id: int, state: str, reason: str, by: str) -> RiskProfile:
    """Throw the switch of one profile. Once it answers, no opening order commits any more.

    Raises ValidationError for an unknown state, and for a missing reason unless the state already
    holds.
    """
    if state not in TradingState.values:
        raise ValidationError({"state": f"one of {', '.join(TradingState.values)}"})
    if not reason.strip():
        raise ValidationError({"reason": "say why"})
    with transaction.atomic():
        profile = RiskProfile.objects.select_for_update().get(pk=profile_id)
        profile.trading_state = state
        profile.state_reason = reason.strip()[:200]
        profile.state_changed_by = by[:150]
        profile.state_changed_at = clock.wall_now()
        profile.save(
            update_fields=["trading_state", "state_reason", "state_changed_by", "state_changed_at"]
        )
        transaction.on_commit(
            partial(trading_state_changed.send_robust, sender=RiskProfile, profile_id=profile.pk),
            robust=True,
        )
    return profile


def change_limit(*, profile_id: int, name: str, value: float) -> RiskProfile:
    """Set one limit. Raises ValidationError for an unknown name or a value out of its bounds."""
    if name not in LIMIT_NAMES:
        raise ValidationError({"name": f"one of {', '.join(LIMIT_NAMES)}"})
    if not math.isfinite(value):
        raise ValidationError({"value": "a finite number"})
    with transaction.atomic():
        profile = RiskProfile.objects.select_for_update().get(pk=profile_id)
        setattr(profile, name, value)
        profile.clean_fields(
            exclude=[field.name for field in RiskProfile._meta.fields if field.name != name]
        )
        profile.save(update_fields=[name])
    profile.refresh_from_db()
    return profile


def recordable(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values for a JSON column: what is not finite becomes the text that float() reads back."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
