"""Reads of risk profiles: their limits as the values that the pure rules work on."""

from __future__ import annotations

from risk.limits import STATE_ACTIVE, STATE_HALTED, STATE_REDUCING, Limits
from risk.models import RiskProfile, TradingState

STATE_CODES = {
    TradingState.ACTIVE.value: STATE_ACTIVE,
    TradingState.REDUCING.value: STATE_REDUCING,
    TradingState.HALTED.value: STATE_HALTED,
}
# What an operator may change by name; `trading_state` has its own door.
LIMIT_NAMES = tuple(name for name in Limits._fields if name != "trading_state")


def limits_of(*, profile: RiskProfile) -> Limits:
    """The profile's limits and trading state as scalars."""
    values = {name: getattr(profile, name) for name in LIMIT_NAMES}
    return Limits(trading_state=STATE_CODES[profile.trading_state], **values)
