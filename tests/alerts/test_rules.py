"""Which rows are told, in the shape that the files promise."""

from datetime import UTC, datetime

import pytest

from alerts import rules
from risk.limits import REASONS

AT = datetime(2021, 5, 13, 1, tzinfo=UTC)
SIGNAL = {
    "signal_id": 7,
    "asset": "bitcoin",
    "confidence": 0.75,
    "strategies": ["mean_reversion"],
    "price": 50_000.0,
    "position_size": 0.02,
    "stop_loss": 49_000.0,
    "take_profit": 52_000.0,
    "at": AT,
}


def test_a_wanted_position_is_told_in_the_signal_shape():
    draft = rules.signal_alert(direction=-1, **SIGNAL)
    assert draft.key == "signal:7"
    assert draft.payload == {
        "timestamp": 1620867600000,
        "asset": "bitcoin",
        "signal_type": "SHORT",
        "confidence": 0.75,
        "strategies": ["mean_reversion"],
        "price": 50_000.0,
        "position_size": 0.02,
        "risk_metrics": {"stop_loss": 49_000.0, "take_profit": 52_000.0},
    }


def test_flat_is_not_told():
    assert rules.signal_alert(direction=0, **SIGNAL) is None


def test_only_the_voters_for_the_winning_side_support_it():
    votes = {"b": {"direction": 1}, "a": {"direction": 1}, "c": {"direction": -1}, "d": {}}
    assert rules.supporters(1, votes) == ["a", "b"]


@pytest.mark.parametrize("reason", sorted({*REASONS.values(), "no_quote"} - {""}))
def test_every_refusal_is_either_trivial_or_told(reason):
    draft = rules.refusal_alert(
        decision_id=3, asset="bitcoin", direction=1, reason=reason, account="paper", at=AT
    )
    assert (draft is None) == (reason in rules.TRIVIAL_REFUSALS)
    if draft is not None:
        assert (draft.kind, draft.payload["reason"]) == ("risk", reason)


def test_the_same_switch_thrown_twice_is_told_twice():
    facts = {"account": "paper", "cause": "person", "reason": "drill", "by": "ada", "at": AT}
    halted = rules.trading_state_alert(change_id=1, state="halted", **facts)
    again = rules.trading_state_alert(change_id=2, state="halted", **facts)
    assert halted.key != again.key
    assert halted.title == "trading on paper is halted: drill"
