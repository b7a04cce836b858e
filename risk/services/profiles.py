"""Risk profiles: made with all their limits, which change within bounds; every change is kept."""

from __future__ import annotations

from collections.abc import Mapping

from django.core.exceptions import ValidationError
from django.db import transaction

from collectors import clock
from risk.declarations import BY_NAME, DECLARATIONS
from risk.models import RiskLimit, RiskLimitChange, RiskProfile
from risk.selectors import limits_of
from signals.catalog import subscription_names

BY_HAND = "manual"  # in whose name a person orders


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
    refuse_limit(
        profile_id=profile_id, name=name, value=value, by=by, reason=reason, strategy=strategy
    )
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


def refuse_limit(
    *, profile_id: int, name: str, value: float, by: str, reason: str, strategy: str
) -> None:
    """Raises ValidationError for what `change_limit` would not do, and keeps that it was tried."""
    faults = _limit_faults(name, value, strategy)
    if not faults:
        return
    keep_refusal(
        profile_id=profile_id,
        name=name,
        asked=repr(value),
        refusal="; ".join(faults.values()),
        by=by,
        reason=reason,
        strategy=strategy,
    )
    raise ValidationError(faults)


def keep_refusal(
    *,
    profile_id: int,
    name: str,
    asked: str,
    refusal: str,
    by: str,
    reason: str = "",
    strategy: str = "",
) -> None:
    """Keep that somebody asked for a limit that may not be, in whatever words, and why not."""
    RiskLimitChange.objects.create(
        profile_id=profile_id,
        name=name.replace("\x00", "")[:32],
        strategy=strategy[:64],
        asked=asked.replace("\x00", "")[:32],
        refusal=refusal.replace("\x00", "")[:200],
        changed_by=by[:150],
        reason=reason.strip()[:200],
        at=clock.wall_now(),
    )


def _limit_faults(name: str, value: float, strategy: str = "") -> dict[str, str]:
    """What is wrong with a limit's new value, by field."""
    if name not in BY_NAME:
        return {"name": f"one of {', '.join(BY_NAME)}"}
    if strategy and not BY_NAME[name].per_strategy:
        return {"strategy": f"{name} is one for all strategies"}
    if strategy and strategy not in (known := [*subscription_names(), BY_HAND]):
        return {"strategy": f"one of {', '.join(known)}"}
    fault = BY_NAME[name].fault(value)
    return {"value": fault} if fault else {}
