"""Decisions on requests, each stored with what it was computed from; limits; the trading state.

A refusal is a row, never an exception. `assess` and `refuse` run inside the caller's transaction,
which holds the lock on the profile's row, so the verdict and what follows from it are one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from django.core.exceptions import ValidationError
from django.db import transaction

from collectors import clock
from collectors.models import Instrument
from risk.assessment import Request, Verdict, decide, no_verdict
from risk.declarations import BY_NAME, DECLARATIONS, declared_faults, limit_warnings
from risk.events import trading_state_changed
from risk.limits import ASSESSMENT_ERROR, ASSESSMENT_TIMEOUT, Limits
from risk.models import (
    Desk,
    RiskDecision,
    RiskLimit,
    RiskLimitChange,
    RiskProfile,
    StateCause,
    TradingState,
    TradingStateChange,
)
from risk.portfolio import Portfolio
from risk.selectors import limits_of, surroundings_at
from signals.models import Signal

log = structlog.get_logger(__name__)

TIME_LIMIT_S = 5.0  # a verdict that took longer is about a market that has moved on


@dataclass(kw_only=True)
class _Judged:
    """What came of one assessment: the verdict and what it was computed from."""

    verdict: Verdict
    warnings: list[str]
    inputs: dict[str, Any]


def assess(
    *,
    profile: RiskProfile,
    portfolio: Callable[[], Portfolio],
    instrument: Instrument,
    request: Request,
    at: datetime,
    closed_at: datetime | None = None,
    strategy: str = "",
    signal: Signal | None = None,
    context: Mapping[str, Any] | None = None,
) -> tuple[RiskDecision, Verdict]:
    """Decide on a request and store the decision with every scalar it saw.

    `portfolio` is read within, so that what fails in it refuses as well. `at` is market time;
    `closed_at` the close of the newest bar that market facts may come from, by default `at`.
    `strategy` (by default the signal's) may have limits of its own. `context` is recorded beside
    the inputs (the quote that gave the price). An error or more than `TIME_LIMIT_S` refuses: the
    reason is `assessment_error` or `assessment_timeout`. One decision per profile and signal: a
    second one raises IntegrityError.
    """
    started = time.perf_counter()
    strategy = strategy or (signal.strategy if signal is not None else "")
    limits = limits_of(profile=profile, strategy=strategy)
    try:
        # A savepoint: after a failed query nothing else could be written in the transaction.
        with transaction.atomic():
            judged = _judge(portfolio, instrument, request, limits, closed_at or at)
    except Exception as error:
        log.exception("assessment_failed", profile=profile.pk, instrument=instrument.coin_id)
        judged = _unjudged(
            request, no_verdict(ASSESSMENT_ERROR), f"{type(error).__name__}: {error}"
        )
    elapsed = time.perf_counter() - started
    if elapsed > TIME_LIMIT_S:
        log.error("assessment_timeout", profile=profile.pk, seconds=elapsed)
        judged = _unjudged(request, no_verdict(ASSESSMENT_TIMEOUT), f"took {elapsed:.1f} s")
    verdict = judged.verdict
    outputs = {
        **verdict._asdict(),
        "usage": recordable(verdict.usage._asdict()),
        "sizes": recordable(verdict.sizes._asdict()),
    }
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
        warnings=judged.warnings,
        inputs={**judged.inputs, "context": dict(context or {})},
        outputs=recordable(outputs),
        config_snapshot=recordable(limits._asdict()),
        at=at,
        processing_time_ms=(time.perf_counter() - started) * 1000.0,
    )
    return decision, verdict


def _judge(
    read_portfolio: Callable[[], Portfolio],
    instrument: Instrument,
    request: Request,
    limits: Limits,
    closed_at: datetime,
) -> _Judged:
    faults = declared_faults(limits)
    if faults:
        # A limit that no comparison ever breaks (a NaN written by hand) would be none.
        raise ValueError(f"limits out of their bounds: {faults}")
    portfolio = read_portfolio()
    surroundings = surroundings_at(
        coin_ids=[instrument.coin_id, *portfolio.exposures], at=closed_at
    )
    standing = portfolio.standing(instrument.coin_id, request.direction, surroundings)
    verdict = decide(request, standing, limits)
    inputs = {
        **recordable(request._asdict()),
        **recordable(standing._asdict()),
        "cash": portfolio.cash,
        "facts_at": closed_at.isoformat(),
    }
    return _Judged(verdict=verdict, warnings=limit_warnings(verdict.usage, limits), inputs=inputs)


def _unjudged(request: Request, verdict: Verdict, why: str) -> _Judged:
    return _Judged(verdict=verdict, warnings=[why[:300]], inputs=recordable(request._asdict()))


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
        config_snapshot=recordable(limits_of(profile=profile)._asdict()),
        at=at,
        processing_time_ms=0.0,
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
) -> TradingStateChange:
    """Put a profile, or the desk, into a trading state, and write the row that says why.

    Runs in the caller's transaction, which holds the owner's row. A change by staleness moves
    only between active and reducing, and leaves the owner's own state.
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
    transaction.on_commit(
        partial(trading_state_changed.send_robust, sender=TradingStateChange, change_id=change.pk),
        robust=True,
    )
    return change


def create_profile(*, name: str, values: Mapping[str, float] | None = None) -> RiskProfile:
    """A profile with a row for every limit: `values`, else the default of its declaration.

    Raises ValidationError for an unknown limit, one out of bounds, or a name that is taken.
    """
    asked = dict(values or {})
    for limit, value in asked.items():
        faults = _limit_faults(limit, value)
        if faults:
            raise ValidationError(faults)
    with transaction.atomic():
        profile = RiskProfile(name=name)
        profile.full_clean()
        profile.save()
        RiskLimit.objects.bulk_create(
            RiskLimit(profile=profile, name=each.name, value=asked.get(each.name, each.default))
            for each in DECLARATIONS
        )
    return profile


def change_limit(
    *,
    profile_id: int,
    name: str,
    value: float,
    by: str = "",
    reason: str = "",
    strategy: str = "",
) -> RiskLimit:
    """Set one limit, for all or for one strategy, and record who changed what and why.

    Holds for every assessment after the answer. Raises ValidationError for an unknown name, a value
    out of its bounds, or a strategy where the limit is one for all: the limit stays as it is, and
    the attempt is kept beside the changes.
    """
    faults = _limit_faults(name, value, strategy)
    if faults:
        RiskLimitChange.objects.create(
            profile_id=profile_id,
            name=name[:32],
            strategy=strategy[:64],
            asked=repr(value)[:32],
            refusal="; ".join(faults.values())[:200],
            changed_by=by[:150],
            reason=reason.strip()[:200],
            at=clock.wall_now(),
        )
        raise ValidationError(faults)
    now = clock.wall_now()
    with transaction.atomic():
        profile = RiskProfile.objects.select_for_update().get(pk=profile_id)
        before = getattr(limits_of(profile=profile, strategy=strategy), name)
        limit, _ = RiskLimit.objects.update_or_create(
            profile=profile,
            name=name,
            strategy=strategy,
            defaults={"value": value, "changed_by": by[:150], "changed_at": now},
        )
        RiskLimitChange.objects.create(
            profile=profile,
            name=name,
            strategy=strategy,
            old_value=before,
            new_value=value,
            changed_by=by[:150],
            reason=reason.strip()[:200],
            at=now,
        )
    return limit


def _limit_faults(name: str, value: float, strategy: str = "") -> dict[str, str]:
    """What is wrong with a limit's new value, by field."""
    if name not in BY_NAME:
        return {"name": f"one of {', '.join(BY_NAME)}"}
    if strategy and not BY_NAME[name].per_strategy:
        return {"strategy": f"{name} is one for all strategies"}
    fault = BY_NAME[name].fault(value)
    return {"value": fault} if fault else {}


def recordable(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values for a JSON column: what is not finite becomes the text that float() reads back."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
