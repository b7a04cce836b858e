"""Decisions on requests, each stored with what it was computed from.

A refusal is a row, never an exception. `assess` and `refuse` run inside the caller's transaction,
which holds the lock on the profile's row, so the verdict and what follows from it are one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction

from collectors.models import Instrument
from risk.assessment import Request, Verdict, decide, no_verdict
from risk.declarations import declared_faults, limit_warnings
from risk.limits import ASSESSMENT_ERROR, ASSESSMENT_TIMEOUT, Limits
from risk.models import RiskDecision, RiskProfile
from risk.portfolio import Portfolio
from risk.selectors import StateInForce, limits_of, surroundings_at
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
    in_force: StateInForce | None = None,
    strategy: str = "",
    signal: Signal | None = None,
    context: Mapping[str, Any] | None = None,
) -> tuple[RiskDecision, Verdict]:
    """Decide on a request and store the decision with every scalar it saw.

    `portfolio` is read within, so that what fails in it refuses as well. `at` is market time;
    `closed_at` the close of the newest bar that market facts may come from, by default `at`;
    `in_force` the trading state where the caller has read it under the account's lock.
    `strategy` (by default the signal's) may have limits of its own. `context` is recorded beside
    the inputs (the quote that gave the price). An error or more than `TIME_LIMIT_S` refuses: the
    reason is `assessment_error` or `assessment_timeout`. One decision per profile and signal: a
    second one raises IntegrityError.
    """
    started = time.perf_counter()
    strategy = strategy or (signal.strategy if signal is not None else "")
    limits = limits_of(profile=profile, strategy=strategy, in_force=in_force)
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
        **recordable({**standing._asdict(), "cash": portfolio.cash}),
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


def recordable(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values for a JSON column: what is not finite becomes the text that float() reads back."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
