"""Each sizing method by hand, and the blend of those that are defined."""

from __future__ import annotations

import math

import pytest

from risk.declarations import limits_from
from risk.sizing import (
    METHODS,
    Sizes,
    kelly_size,
    parity_size,
    position_sizes,
    stop_price,
    target_price,
    volatility_size,
)
from tests.risk.standing import STANDING

RECORD = {"trades": 40, "wins": 24, "won": 480.0, "lost": 240.0}
LIMITS = limits_from({})


def sizes(
    standing: dict[str, float] | None = None,
    *,
    confidence: float = 0.75,
    proposal: float = math.nan,
    limits: dict[str, float] | None = None,
) -> Sizes:
    return position_sizes(
        STANDING._replace(**(standing or {})),
        LIMITS._replace(**(limits or {})),
        confidence,
        proposal,
    )


def test_fixed_percent_alone_comes_through_to_the_last_bit() -> None:
    found = sizes(confidence=0.8)
    assert found.fixed_percent == found.blended == found.granted == 10_000.0 * 0.02 * 0.8
    assert math.isnan(found.kelly)
    assert math.isnan(found.volatility_target)
    assert math.isnan(found.risk_parity)
    assert METHODS[found.method] == "blended"


def test_kelly_of_a_record_by_hand() -> None:
    """24 of 40 win 20 each, 16 lose 15: p = 0.6, b = 4/3, Kelly = 0.6 - 0.4 / (4/3) = 0.3."""
    assert kelly_size(10_000.0, 40, 24, 480.0, 240.0, 0.25, 30) == pytest.approx(750.0)
    assert kelly_size(10_000.0, 40, 24, 480.0, 240.0, 1.0, 30) == pytest.approx(3_000.0)


@pytest.mark.parametrize(
    ("trades", "wins", "won", "lost", "expected"),
    [
        (29, 20, 400.0, 100.0, math.nan),  # too few to say anything
        (40, 0, 0.0, 500.0, 0.0),
        (40, 12, 240.0, 560.0, 0.0),  # 0.3 - 0.7 / 1: no edge
        (40, 40, 400.0, 0.0, 2_500.0),  # never lost
        (0, 0, 0.0, 0.0, math.nan),
    ],
)
def test_kelly_at_its_edges(
    trades: int, wins: int, won: float, lost: float, expected: float
) -> None:
    found = kelly_size(10_000.0, trades, wins, won, lost, 0.25, 30)
    assert found == pytest.approx(expected, nan_ok=True)


def test_a_volatility_target_by_hand() -> None:
    """0.05 a year of 10,000 from a coin that moves 3% a day: 500 / (0.03 x root of 365)."""
    assert volatility_size(10_000.0, 0.03, 0.05) == pytest.approx(500.0 / (0.03 * math.sqrt(365)))
    assert math.isnan(volatility_size(10_000.0, math.nan, 0.05))
    assert math.isnan(volatility_size(10_000.0, 0.0, 0.05))


def test_risk_parity_moves_as_much_as_the_average_other_position() -> None:
    assert parity_size(25.0, 0.05) == pytest.approx(500.0)
    assert math.isnan(parity_size(math.nan, 0.05))
    assert math.isnan(parity_size(25.0, math.nan))
    assert math.isnan(parity_size(0.0, 0.05))


def test_the_blend_of_all_four() -> None:
    found = sizes({**RECORD, "daily_volatility": 0.04, "held_risk": 20.0})
    assert found.fixed_percent == pytest.approx(150.0)
    assert found.kelly == pytest.approx(750.0)
    volatility = 500.0 / (0.04 * math.sqrt(365))
    assert found.volatility_target == pytest.approx(volatility)
    assert found.risk_parity == pytest.approx(500.0)
    blend = 0.30 * 150.0 + 0.30 * 750.0 + 0.25 * volatility + 0.15 * 500.0
    assert found.blended == found.granted == pytest.approx(blend)


def test_the_weight_of_the_undefined_goes_to_the_others_in_proportion() -> None:
    found = sizes({"daily_volatility": 0.04})
    volatility = 500.0 / (0.04 * math.sqrt(365))
    assert found.blended == pytest.approx((0.30 * 150.0 + 0.25 * volatility) / 0.55)


def test_a_losing_record_makes_the_blend_smaller() -> None:
    losing = sizes({"trades": 40, "wins": 4, "won": 10.0, "lost": 500.0})
    assert losing.kelly == 0.0
    assert losing.blended == pytest.approx(0.5 * 150.0)


def test_every_method_is_capped() -> None:
    found = sizes(
        {**RECORD, "daily_volatility": 1e-5, "held_risk": 20.0},
        confidence=1.0,
        limits={"base_size": 0.5, "kelly_fraction": 1.0},
    )
    assert found[:5] == pytest.approx((1_000.0,) * 5)


def test_a_proposal_bounds_the_blend_and_never_raises_it() -> None:
    below, above = sizes(proposal=0.01), sizes(proposal=0.09)
    assert (below.granted, METHODS[below.method]) == (100.0, "proposal")
    assert (above.granted, METHODS[above.method]) == (above.blended, "blended")
    assert above.proposed == 900.0


@pytest.mark.parametrize("direction", [1, -1])
def test_stop_and_target_of_a_request_without(direction: int) -> None:
    stop = stop_price(direction, 100.0, math.nan, 0.02)
    assert stop == pytest.approx(100.0 - direction * 2.0)
    assert target_price(direction, 100.0, stop, math.nan, 2.0) == pytest.approx(
        100.0 + direction * 4.0
    )
    assert stop_price(direction, 100.0, 90.0, 0.02) == 90.0
    assert target_price(direction, 100.0, stop, 150.0, 2.0) == 150.0


def test_a_short_target_below_zero_is_none() -> None:
    assert math.isnan(target_price(-1, 100.0, 160.0, math.nan, 2.0))
