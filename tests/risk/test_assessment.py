"""The verdict: what is sized, what is refused and why."""

import math

import pytest

from risk.assessment import Request, Verdict, composite_score, decide, risk_level
from risk.declarations import limit_warnings, limits_from
from risk.limits import REASONS, STATE_HALTED, STATE_REDUCING
from tests.risk.standing import STANDING

LIMITS = limits_from({})
REQUEST = Request(
    direction=1,
    confidence=0.8,
    price=100.0,
    stop_loss=math.nan,
    take_profit=math.nan,
    proposed_size=math.nan,
    step_notional=0.1,
    min_notional=5.0,
)


def judge(
    request: dict[str, float] | None = None,
    standing: dict[str, float] | None = None,
    limits: dict[str, float] | None = None,
) -> Verdict:
    return decide(
        REQUEST._replace(**(request or {})),
        STANDING._replace(**(standing or {})),
        LIMITS._replace(**(limits or {})),
    )


def test_the_size_is_base_times_confidence_of_equity() -> None:
    verdict = judge()
    assert verdict.is_approved
    assert verdict.size == pytest.approx(160.0)
    assert verdict.steps == 1600
    assert verdict.stop_loss == pytest.approx(98.0)
    assert verdict.take_profit == pytest.approx(104.0)
    assert verdict.risk == pytest.approx(3.2)


def test_a_proposal_is_an_upper_bound() -> None:
    assert judge({"proposed_size": 0.01}).size == pytest.approx(100.0)
    assert judge({"proposed_size": 0.5}).size == pytest.approx(160.0)
    assert judge({"proposed_size": 0.0}).size == pytest.approx(160.0)


def test_a_size_is_floored_to_whole_steps() -> None:
    verdict = judge({"step_notional": 70.0})
    assert (verdict.steps, verdict.size) == (2, 140.0)


def test_a_short_is_protected_on_the_other_side() -> None:
    verdict = judge({"direction": -1})
    assert verdict.stop_loss == pytest.approx(102.0)
    assert verdict.take_profit == pytest.approx(96.0)


@pytest.mark.parametrize(
    ("request_", "standing", "limits", "reason"),
    [
        ({"confidence": 0.49}, {}, {}, "confidence_floor"),
        ({}, {}, {"trading_state": STATE_HALTED}, "trading_halted"),
        ({}, {}, {"trading_state": STATE_REDUCING}, "trading_reducing"),
        ({"stop_loss": 101.0}, {}, {}, "stop_passed"),
        ({"take_profit": 99.0}, {}, {}, "target_passed"),
        ({"step_notional": 200.0}, {}, {}, "min_notional"),
        ({"min_notional": 161.0}, {}, {}, "min_notional"),
        ({}, {"instrument_exposure": 1_400.0}, {}, "max_single_asset"),
        ({}, {"sector_exposure": 2_900.0}, {}, "max_sector"),
        ({}, {"correlation": 0.81}, {}, "max_correlation"),
        ({}, {"volatility_24h": 0.21}, {}, "max_volatility"),
        ({}, {"volatility_24h": math.nan}, {}, "volatility_unknown"),
        ({}, {"quote_volume_24h": 999_999.0}, {}, "min_liquidity"),
        ({}, {"quote_volume_24h": math.nan}, {}, "liquidity_unknown"),
        ({"stop_loss": 49.0}, {}, {}, "max_stop_distance"),
        ({}, {"open_positions": 10}, {}, "max_open_positions"),
        ({}, {"gross_exposure": 9_900.0}, {}, "buying_power"),
        ({}, {"open_risk": 2_498.0}, {}, "max_portfolio_risk"),
        ({}, {"high_water_mark": 12_499.0}, {}, "max_drawdown"),
        ({}, {"day_start_equity": 10_525.0}, {}, "max_daily_loss"),
    ],
)
def test_each_limit_refuses_with_its_own_reason(
    request_: dict[str, float],
    standing: dict[str, float],
    limits: dict[str, float],
    reason: str,
) -> None:
    verdict = judge(request_, standing, limits)
    assert verdict.reason == reason
    assert (verdict.size, verdict.steps) == (0.0, 0)


def test_the_loss_at_the_stop_counts_before_it_happens() -> None:
    """9,502 is above the daily floor of 9,500, but not after another 3.2 of loss."""
    standing = {"equity": 9_502.0}
    assert judge({}, standing).reason == "max_daily_loss"
    assert judge({"stop_loss": 99.9}, standing).is_approved


@pytest.mark.parametrize("field", ["confidence", "price", "step_notional", "min_notional"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_absurd_requests_are_refused(field: str, value: float) -> None:
    assert judge({field: value}).reason == "invalid_request"


@pytest.mark.parametrize("value", [math.inf, -1.0, 0.0, 1e300])
def test_absurd_stops_are_refused(value: float) -> None:
    assert judge({"stop_loss": value}).reason == "invalid_request"
    assert judge({"take_profit": value}).reason == "invalid_request"


@pytest.mark.parametrize("equity", [0.0, -5.0, math.nan, math.inf])
def test_a_portfolio_without_equity_gets_nothing(equity: float) -> None:
    assert judge({}, {"equity": equity}).reason == "invalid_request"


@pytest.mark.parametrize("direction", [0, 2, -3])
def test_only_long_and_short_can_be_opened(direction: int) -> None:
    assert judge({"direction": direction}).reason == "invalid_request"


def test_the_composite_score_and_its_levels() -> None:
    assert composite_score(5_000.0, 0.5, 0.1) == pytest.approx(0.2 + 0.15 + 0.03)
    assert composite_score(1e9, 7.0, 3.0) == pytest.approx(1.0)
    levels = [risk_level(score) for score in (0.0, 0.08, 0.081, 0.12, 0.18, 0.181)]
    assert levels == ["low", "low", "medium", "medium", "high", "critical"]


def test_a_limit_used_to_four_fifths_is_warned_of() -> None:
    verdict = judge({}, {"sector_exposure": 2_300.0, "correlation": math.nan})
    assert verdict.is_approved
    lines = limit_warnings(verdict.usage, LIMITS)
    assert lines == ["max_sector: 0.246 of 0.3", "max_correlation: unknown"]


def test_every_code_has_a_reason() -> None:
    assert sorted(REASONS) == list(range(len(REASONS)))
    assert len(set(REASONS.values())) == len(REASONS)
