"""What an alert from outside proposes, and whether that may be true. Pure.

The format is part of the product's contract; `docs/outside-signals.md` describes it. Two families
are signals: `volatility` (`alert_type` is `volatility_spike`) and `signal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from collectors.marketdata import TIMEFRAMES, from_ms, to_ms
from collectors.plainjson import shown
from signals.alertjson import AlertRefused

DIRECTIONS = {"LONG": 1, "SHORT": -1, "FLAT": 0}
KINDS = ("signal", "volatility_spike")
TIMEFRAME = "1h"  # of an alert that does not say one
ABSURD_PRICE = 1e12  # quote units; no instrument trades near it
TEXT_LIMIT = 64
EARLIEST_MS, LATEST_MS = 10**11, 10**14  # 1973 and 5138: neither seconds nor microseconds fit
MOMENT_LENGTH = len("2026-01-01T00:00")


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A wanted state as somebody outside proposes it; size and levels are for risk to judge.

    `asset` is a name that is not understood yet. `at` is market time, in whole milliseconds;
    `position_size` a fraction of equity; prices are in quote units, None where there is none.
    """

    alert_id: str
    asset: str
    signal_type: str
    at: datetime
    timeframe: str
    price: float
    confidence: float
    position_size: float | None
    stop_loss: float | None
    take_profit: float | None

    @property
    def direction(self) -> int:
        """1 long, -1 short, 0 flat."""
        return DIRECTIONS[self.signal_type]


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Who is let in at market time `now`: how old, how far ahead of our clock, how sure."""

    now: datetime
    max_age: timedelta
    tolerance: timedelta
    min_confidence: float


def read_proposal(alert: Mapping[str, Any]) -> Proposal:
    """The proposal of an alert that `read_alert` has read. Raises AlertRefused."""
    _check_kind(alert)
    signal_type = _given(alert, "signal_type")
    if not isinstance(signal_type, str) or signal_type not in DIRECTIONS:
        raise AlertRefused(f"signal_type: {shown(signal_type)} is not LONG, SHORT or FLAT")
    price = _price(alert)
    stop, target = _levels(alert)
    size = _number(alert, "position_size", high=1.0)
    if DIRECTIONS[signal_type]:
        _check_sides(DIRECTIONS[signal_type], price, stop, target)
    else:
        stop = target = size = None
    timeframe = alert.get("timeframe")
    if timeframe is not None and (not isinstance(timeframe, str) or timeframe not in TIMEFRAMES):
        raise AlertRefused(f"timeframe: {shown(timeframe)} is not one of {', '.join(TIMEFRAMES)}")
    return Proposal(
        alert_id=_alert_id(alert.get("id")),
        asset=_text("asset", _given(alert, "asset")),
        signal_type=signal_type,
        at=_moment(_given(alert, "timestamp")),
        timeframe=timeframe or TIMEFRAME,
        price=price,
        confidence=_confidence(alert, is_flat=signal_type == "FLAT"),
        position_size=size,
        stop_loss=stop,
        take_profit=target,
    )


def check_admission(proposal: Proposal, admission: Admission) -> None:
    """Raises AlertRefused for a proposal from the future, too old, or not sure enough.

    What only closes may be as unsure as it likes.
    """
    age = admission.now - proposal.at
    if -age > admission.tolerance:
        raise AlertRefused(f"from the future: {_told(-age)} ahead of market time")
    if age > admission.max_age:
        raise AlertRefused(f"too old: {_told(age)}, allowed are {_told(admission.max_age)}")
    if proposal.direction and proposal.confidence < admission.min_confidence:
        raise AlertRefused(
            f"confidence {proposal.confidence:g} is below {admission.min_confidence:g}"
        )


def alert_key(proposal: Proposal, coin_id: str) -> str:
    """What an alert is known by however often it comes: its own id, else what it speaks of."""
    if proposal.alert_id:
        return f"id:{proposal.alert_id}"
    return f"{coin_id}:{to_ms(proposal.at)}:{proposal.signal_type}"


def _check_kind(alert: Mapping[str, Any]) -> None:
    kind = alert.get("alert_type")
    if kind is not None and (not isinstance(kind, str) or kind not in KINDS):
        raise AlertRefused(f"alert_type: {shown(kind)} is no proposal to trade")
    exceeded = alert.get("threshold_exceeded")
    if exceeded is not None and exceeded is not True:
        raise AlertRefused(f"threshold_exceeded is {shown(exceeded)}")


def _price(alert: Mapping[str, Any]) -> float:
    found = {_number(alert, name, high=ABSURD_PRICE) for name in ("price", "current_price")}
    found.discard(None)
    if len(found) > 1:
        raise AlertRefused("price and current_price differ")
    price = next(iter(found), None)
    if price is None:
        raise AlertRefused("price is missing")
    return _positive("price", price)


def _levels(alert: Mapping[str, Any]) -> tuple[float | None, float | None]:
    metrics = alert.get("risk_metrics")
    if metrics is not None and not isinstance(metrics, dict):
        raise AlertRefused("risk_metrics is not an object")
    levels = []
    for name in ("stop_loss", "take_profit"):
        found = {_number(part, name, high=ABSURD_PRICE) for part in (alert, metrics or {})}
        found.discard(None)
        if len(found) > 1:
            raise AlertRefused(f"{name} is given twice and differs")
        level = next(iter(found), None)
        levels.append(None if level is None else _positive(name, level))
    return levels[0], levels[1]


def _check_sides(direction: int, price: float, stop: float | None, target: float | None) -> None:
    if stop is not None and direction * (price - stop) <= 0.0:
        raise AlertRefused(f"stop_loss {stop:g} is on the wrong side of {price:g}")
    if target is not None and direction * (target - price) <= 0.0:
        raise AlertRefused(f"take_profit {target:g} is on the wrong side of {price:g}")


def _confidence(alert: Mapping[str, Any], *, is_flat: bool) -> float:
    confidence = _number(alert, "confidence", high=1.0)
    percentile = _number(alert, "volatility_percentile", high=100.0)
    if confidence is not None:
        return confidence
    if percentile is not None:
        return percentile / 100.0
    if is_flat:
        return 0.0
    raise AlertRefused("confidence is missing, and volatility_percentile too")


def _alert_id(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text("id", value)


def _moment(value: Any) -> datetime:
    """Milliseconds since 1970, or ISO 8601 (UTC where no zone is named), as market time."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not EARLIEST_MS <= value <= LATEST_MS:
            raise AlertRefused(f"timestamp: {shown(value)} is not in milliseconds since 1970")
        return from_ms(int(value))
    if isinstance(value, str) and len(value) >= MOMENT_LENGTH and value.isascii():
        try:
            moment = datetime.fromisoformat(value)
            aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
            return from_ms(to_ms(aware.astimezone(UTC)))
        except (ValueError, OverflowError):
            pass
    raise AlertRefused(f"timestamp: {shown(value)} is no moment")


def _given(alert: Mapping[str, Any], name: str) -> Any:
    value = alert.get(name)
    if value is None:
        raise AlertRefused(f"{name} is missing")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_LIMIT or not value.isprintable():
        raise AlertRefused(f"{name}: {shown(value)} is no name")
    return value


def _number(alert: Mapping[str, Any], name: str, *, high: float) -> float | None:
    """A number of [0, high]; null and nothing are None."""
    value = alert.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AlertRefused(f"{name}: {shown(value)} is no number")
    if not 0.0 <= value <= high:
        raise AlertRefused(f"{name}: {shown(value)} is outside 0 to {high:g}")
    return float(value)


def _positive(name: str, value: float) -> float:
    if not 0.0 < value < ABSURD_PRICE:
        raise AlertRefused(f"{name}: {value:g} is no price")
    return value


def _told(span: timedelta) -> str:
    """A length of time in whole seconds."""
    return str(timedelta(seconds=int(span.total_seconds())))
