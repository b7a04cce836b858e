"""What risk reads of the market, against NumPy over the same windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from risk.facts import (
    DAYS,
    HOUR_MS,
    LEAD_HOURS,
    Hours,
    InstrumentFacts,
    Surroundings,
    facts_at,
    pair_correlation,
)
from risk.portfolio import Portfolio

DAY_MS = 24 * HOUR_MS
MIDNIGHT = 18_000 * DAY_MS


def walk(bars: int, *, first_open: int = MIDNIGHT, seed: int = 3) -> Hours:
    """Two coins of random hours that trade 1 to 2 million each hour."""
    rng = np.random.default_rng(seed)
    return Hours(
        coin_ids=("bitcoin", "ethereum"),
        first_open=first_open,
        close=100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, (bars, 2)), axis=0)),
        valid=np.full((bars, 2), True),
        quote_volume=rng.uniform(1e6, 2e6, (bars, 2)),
    )


def lacking(hours: Hours, bars: slice) -> Hours:
    """The same with a hole: the last close is carried, nothing is known of the volume."""
    close, valid, volume = hours.close.copy(), hours.valid.copy(), hours.quote_volume.copy()
    close[bars] = close[bars.start - 1]
    valid[bars] = False
    volume[bars] = math.nan
    return Hours(
        coin_ids=hours.coin_ids,
        first_open=hours.first_open,
        close=close,
        valid=valid,
        quote_volume=volume,
    )


@pytest.mark.parametrize("late", [0, 1, 13, 23])
def test_facts_are_those_of_numpy(late: int) -> None:
    hours = walk(LEAD_HOURS + 48)
    closed = LEAD_HOURS + late
    facts = facts_at(hours, 0, MIDNIGHT + closed * HOUR_MS)
    close = hours.close[:, 0]
    hourly = close[closed - 24 : closed] / close[closed - 25 : closed - 1] - 1.0
    assert facts.volatility_24h == pytest.approx(hourly.std(ddof=1) * math.sqrt(24.0), rel=1e-12)
    assert facts.quote_volume_24h == pytest.approx(
        hours.quote_volume[closed - 24 : closed, 0].sum()
    )
    days = close[: closed // 24 * 24].reshape(-1, 24)[-DAYS:, -1]
    daily = days[1:] / days[:-1] - 1.0
    assert facts.daily_returns == pytest.approx(tuple(daily), rel=1e-12)
    assert facts.daily_volatility == pytest.approx(daily.std(ddof=1), rel=1e-12)


def test_nothing_after_the_moment_is_read_and_the_start_does_not_matter() -> None:
    """The same bits from arrays that begin and end elsewhere, as live and in a backtest."""
    hours = walk(LEAD_HOURS + 200)
    for closed in (LEAD_HOURS, LEAD_HOURS + 7, LEAD_HOURS + 100):
        cut = slice(closed - LEAD_HOURS, closed)
        live = Hours(
            coin_ids=hours.coin_ids,
            first_open=MIDNIGHT + cut.start * HOUR_MS,
            close=hours.close[cut],
            valid=hours.valid[cut],
            quote_volume=hours.quote_volume[cut],
        )
        moment = MIDNIGHT + closed * HOUR_MS
        assert facts_at(live, 1, moment) == facts_at(hours, 1, moment)


@pytest.mark.parametrize(
    ("hole", "volatility", "volume"), [(11, True, True), (12, True, True), (13, False, False)]
)
def test_half_a_day_must_be_real(hole: int, volatility: bool, volume: bool) -> None:
    stop = LEAD_HOURS
    facts = facts_at(lacking(walk(stop), slice(stop - hole, stop)), 0, MIDNIGHT + stop * HOUR_MS)
    assert math.isnan(facts.volatility_24h) is not volatility
    assert math.isnan(facts.quote_volume_24h) is not volume


def test_a_volume_is_at_least_what_is_known() -> None:
    hours = walk(LEAD_HOURS)
    known = lacking(hours, slice(LEAD_HOURS - 6, LEAD_HOURS))
    moment = MIDNIGHT + LEAD_HOURS * HOUR_MS
    expected = hours.quote_volume[LEAD_HOURS - 24 : LEAD_HOURS - 6, 0].sum()
    assert facts_at(known, 0, moment).quote_volume_24h == pytest.approx(expected)


def test_a_day_without_a_bar_is_no_day() -> None:
    hours = walk(LEAD_HOURS)
    start = LEAD_HOURS - 5 * 24
    holed = lacking(hours, slice(start, start + 24))
    facts = facts_at(holed, 0, MIDNIGHT + LEAD_HOURS * HOUR_MS)
    assert [math.isnan(change) for change in facts.daily_returns[-5:-3]] == [True, True]
    assert not math.isnan(facts.daily_volatility)
    most = lacking(hours, slice(24, LEAD_HOURS - 15 * 24))
    facts = facts_at(most, 0, MIDNIGHT + LEAD_HOURS * HOUR_MS)
    assert math.isnan(facts.daily_volatility)


def test_a_young_series_is_unknown() -> None:
    facts = facts_at(walk(10), 0, MIDNIGHT + 10 * HOUR_MS)
    assert all(math.isnan(value) for value in facts[:3])
    assert all(math.isnan(value) for value in facts.daily_returns)


def test_correlation_is_that_of_numpy() -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 29))
    second = 0.6 * first + 0.4 * second
    expected = np.corrcoef(first, second)[0, 1]
    assert pair_correlation(tuple(first), tuple(second)) == pytest.approx(expected, rel=1e-12)
    first[3], second[7] = math.nan, math.nan
    both = ~(np.isnan(first) | np.isnan(second))
    expected = np.corrcoef(first[both], second[both])[0, 1]
    assert pair_correlation(tuple(first), tuple(second)) == pytest.approx(expected, rel=1e-12)
    first[:11] = math.nan
    assert math.isnan(pair_correlation(tuple(first), tuple(second)))
    assert math.isnan(pair_correlation((0.0,) * 29, tuple(second)))


def known(returns: Any, *, deviation: float = 0.05) -> InstrumentFacts:
    return InstrumentFacts(0.04, deviation, 5e7, tuple(float(value) for value in returns))


def held(exposures: dict[str, float]) -> Portfolio:
    return Portfolio(
        equity=10_000.0,
        cash=10_000.0,
        open_risk=0.0,
        high_water_mark=10_000.0,
        day_start_equity=10_000.0,
        exposures=exposures,
    )


def test_correlation_is_signed_by_both_directions_and_never_with_itself() -> None:
    rng = np.random.default_rng(2)
    one = rng.normal(size=29)
    twin, mirror, other = one + 0.01 * rng.normal(size=29), -one, rng.normal(size=29)
    around = Surroundings(
        facts={
            "bitcoin": known(one),
            "ethereum": known(twin),
            "tether": known(mirror),
            "solana": known(other),
        }
    )

    def of(direction: int, exposures: dict[str, float]) -> float:
        return held(exposures).standing("bitcoin", direction, around).correlation

    assert of(1, {}) == 0.0
    assert of(1, {"bitcoin": 500.0}) == 0.0
    assert of(1, {"ethereum": 500.0}) > 0.99
    assert of(-1, {"ethereum": 500.0}) < -0.99
    assert of(-1, {"ethereum": -500.0}) > 0.99
    assert of(1, {"tether": -500.0}) > 0.99
    assert of(1, {"solana": 1.0, "ethereum": 1.0}) == of(1, {"ethereum": 1.0})
    assert math.isnan(of(1, {"dogecoin": 500.0}))
    assert of(1, {"dogecoin": 1.0, "ethereum": 1.0}) == of(1, {"ethereum": 1.0})


def test_a_sector_adds_up_what_is_held_either_way() -> None:
    sectors = {"bitcoin": "store of value", "fetch-ai": "ai", "bittensor": "ai"}
    around = Surroundings(sectors=sectors)
    portfolio = held({"bitcoin": 700.0, "fetch-ai": -300.0, "bittensor": 200.0, "unknown": 50.0})
    assert portfolio.standing("fetch-ai", 1, around).sector_exposure == 500.0
    assert portfolio.standing("bitcoin", 1, around).sector_exposure == 700.0
    assert portfolio.standing("nobody", 1, around).sector_exposure == 0.0


def test_the_held_risk_is_that_of_the_average_other_position() -> None:
    flat = (0.0,) * 29
    around = Surroundings(
        facts={
            "bitcoin": known(flat, deviation=0.03),
            "ethereum": known(flat, deviation=0.05),
            "solana": known(flat, deviation=math.nan),
        }
    )
    standing = held({"bitcoin": 1_000.0, "ethereum": -400.0, "solana": 100.0}).standing
    assert standing("ripple", 1, around).held_risk == pytest.approx((30.0 + 20.0) / 2)
    assert standing("bitcoin", 1, around).held_risk == pytest.approx(20.0)
    assert math.isnan(held({}).standing("bitcoin", 1, around).held_risk)
