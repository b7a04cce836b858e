"""Which rows are worth telling people, and in which words. Pure.

Each rule takes the facts of one row and answers with a Draft or None. The payload is the body of
the alert file (its shape per kind is part of the product's contract); `key` names what raised it,
so that it is raised once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from risk.limits import CONFIDENCE, MIN_NOTIONAL, REASONS, STOP_PASSED, TARGET_PASSED

DIRECTIONS = {1: "LONG", -1: "SHORT"}
DESK = "desk"  # the asset of what is about all accounts
# Refusals that say something about one signal and nothing about the account.
TRIVIAL_REFUSALS = frozenset(
    {REASONS[code] for code in (CONFIDENCE, MIN_NOTIONAL, STOP_PASSED, TARGET_PASSED)}
    | {"stopped_out", "late"}
)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An alert that has no id yet; `at` is market time."""

    kind: str
    key: str
    asset: str
    title: str
    payload: dict[str, Any] = field(default_factory=dict)
    at: datetime


def signal_alert(
    *,
    signal_id: int,
    asset: str,
    direction: int,
    confidence: float,
    strategies: Sequence[str],
    price: float,
    position_size: float | None,
    stop_loss: float | None,
    take_profit: float | None,
    at: datetime,
) -> Draft | None:
    """A consensus that wants to be long or short; None when it is flat."""
    if direction not in DIRECTIONS:
        return None
    signal_type = DIRECTIONS[direction]
    return Draft(
        kind="signal",
        key=f"signal:{signal_id}",
        asset=asset,
        title=f"{signal_type} {asset} at {price:g}, confidence {confidence:.0%}",
        payload={
            "timestamp": milliseconds(at),
            "asset": asset,
            "signal_type": signal_type,
            "confidence": confidence,
            "strategies": list(strategies),
            "price": price,
            "position_size": position_size,
            "risk_metrics": {"stop_loss": stop_loss, "take_profit": take_profit},
        },
        at=at,
    )


def supporters(direction: int, votes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The strategies that voted for the direction that won, by name."""
    return sorted(name for name, vote in votes.items() if vote.get("direction") == direction)


def refusal_alert(
    *, decision_id: int, asset: str, direction: int, reason: str, account: str, at: datetime
) -> Draft | None:
    """A position that the risk limits refused; None for a trivial reason."""
    if reason in TRIVIAL_REFUSALS:
        return None
    signal_type = DIRECTIONS.get(direction, "FLAT")
    return _told(
        "risk",
        "refused",
        key=f"decision:{decision_id}",
        asset=asset,
        title=f"{signal_type} {asset} refused: {reason}",
        at=at,
        signal_type=signal_type,
        reason=reason,
        account=account,
    )


def trading_state_alert(
    *, change_id: int, account: str, state: str, cause: str, reason: str, by: str, at: datetime
) -> Draft:
    """A person or a figure changed what `account` (empty: all of them) may do."""
    whose = account or "all accounts"
    return _told(
        "risk",
        "trading_state",
        key=f"trading_state:{change_id}",
        asset=account or DESK,
        title=f"trading on {whose} is {state}: {reason}",
        at=at,
        state=state,
        cause=cause,
        reason=reason,
        by=by,
        account=account or None,
    )


def ledger_mismatch_alert(
    *, mismatch_id: int, account: str, found: Sequence[str], at: datetime
) -> Draft:
    """The books of an account do not add up. Told also where the account was halted before."""
    return _told(
        "risk",
        "ledger_mismatch",
        key=f"ledger_mismatch:{mismatch_id}",
        asset=account,
        title=f"the books of {account} do not add up: {found[0]}",
        at=at,
        account=account,
        mismatches=list(found),
    )


def off_market_alert(
    *, position_id: int, account: str, asset: str, quantity: str, since: datetime
) -> Draft:
    """Something is held whose market has ended or rests; told once for each time."""
    return _told(
        "operations",
        "off_market",
        key=f"off_market:{position_id}:{milliseconds(since)}",
        asset=asset,
        title=f"{asset} is not traded any more, and {account} holds {quantity}",
        at=since,
        account=account,
        quantity=quantity,
    )


def delisted_alert(
    *, trade_id: int, account: str, asset: str, quantity: str, price: float, at: datetime
) -> Draft:
    """What was held was settled, as nobody trades it any more."""
    return _told(
        "risk",
        "delisted",
        key=f"delisted:{trade_id}",
        asset=asset,
        title=f"{quantity} {asset} of {account} settled at {price:g}: not traded any more",
        at=at,
        account=account,
        quantity=quantity,
        price=price,
    )


def failing_close_alert(
    *, account_id: int, account: str, signal_id: int, asset: str, tries: int, error: str,
    at: datetime,
) -> Draft:  # fmt: skip
    """A position that should be closed and cannot be: told once for each signal that wants it."""
    return _told(
        "risk",
        "failing_close",
        key=f"failing_close:{account_id}:{signal_id}",
        asset=asset,
        title=f"{asset} of {account} cannot be closed, it has failed {tries} times: {error}",
        at=at,
        account=account,
        tries=tries,
        reason=error,
    )


def failing_strategy_alert(*, strategy: str, reason: str, runs: int, at: datetime) -> Draft:
    """A strategy that could not be used in its last `runs` bar runs: told once a market day."""
    return _told(
        "operations",
        "strategy_failing",
        key=f"strategy:{strategy}:{at:%Y-%m-%d}",
        asset=strategy,
        title=f"{strategy} has failed {runs} times in a row: {reason}",
        at=at,
        strategy=strategy,
        runs=runs,
        reason=reason,
    )


def _told(
    kind: str, alert_type: str, *, key: str, asset: str, title: str, at: datetime, **facts: Any
) -> Draft:
    """An alert of a type of its own, with what every such body begins with."""
    body = {"timestamp": milliseconds(at), "asset": asset, "alert_type": alert_type, **facts}
    return Draft(kind=kind, key=key, asset=asset, title=title[:200], payload=body, at=at)


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970 of an aware moment, to the nearest."""
    return round(moment.timestamp() * 1000)
