"""The link with the VIX: a world of observations on weekdays, each released days later."""

import dataclasses
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from collectors.marketdata import to_ms
from signals.driver import run_pinned
from signals.registry import build_strategy

FIRST = datetime(2021, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
BARS = 1800
MAY = datetime(2021, 5, 1, tzinfo=UTC)
COUNTS = {"7d": 5, "14d": 10, "21d": 15, "30d": 21}


def weekdays() -> list[date]:
    days = (FIRST.date() + timedelta(days=number) for number in range(-5, BARS // 24))
    return [day for day in days if day.weekday() < 5]


def observed(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 21, tzinfo=UTC)


class Link:
    """A seeded VIX, and closes whose returns between its observations follow its changes by
    `slope`; within a day the price wanders, so that only these moments tell."""

    def __init__(self, make_market, *, slope: float, lag: int = 1, noise: float = 0.001) -> None:
        rng = np.random.default_rng(12)
        self.days = weekdays()
        moves = pd.Series(rng.normal(size=len(self.days)) * 0.05, index=self.days)
        self.vix = 20.0 * np.exp(moves.cumsum())
        prices = (moves * slope + rng.normal(size=len(moves)) * noise).cumsum()
        hours = [FIRST + (index + 1) * HOUR for index in range(BARS)]  # the closes
        anchors = [to_ms(observed(day)) for day in self.days]
        path = np.interp([to_ms(hour) for hour in hours], anchors, prices)
        is_anchor = np.isin([to_ms(hour) for hour in hours], anchors)
        path += np.where(is_anchor, 0.0, rng.normal(size=BARS) * 0.004)
        self.close = pd.Series(100.0 * np.exp(path), index=hours)
        released = [
            to_ms(observed(self.days[min(index + lag, len(self.days) - 1)])) + 9 * 3_600_000
            for index in range(len(self.days))
        ]
        self.newest = np.searchsorted(released, [to_ms(hour) for hour in hours], "right") - 1
        ordinals = np.array([day.toordinal() for day in self.days]) - date(1970, 1, 1).toordinal()
        market = make_market(
            np.array(self.close)[:, np.newaxis], vix=self.vix.to_numpy()[self.newest]
        )
        self.market = dataclasses.replace(market, macro_day={"VIXCLS": ordinals[self.newest]})

    def correlations(self, count: int) -> np.ndarray:
        """By pandas, from the days themselves: of the last `count` known at each bar."""
        inside = [day for day in self.days if observed(day) >= FIRST + HOUR]
        inside = [day for day in inside if observed(day) in self.close.index]
        at = self.close[[observed(day) for day in inside]]
        returns = np.log(at).diff().reset_index(drop=True)
        moves = np.log(self.vix[inside]).diff().reset_index(drop=True)
        by_day = pd.Series(returns.rolling(count).corr(moves).to_numpy(), index=inside)
        known = [self.days[index] for index in self.newest]
        return by_day.reindex(known).fillna(0.0).to_numpy()


def analysed(link: Link):
    return build_strategy("vix_correlation").analyze(link.market)


@pytest.mark.parametrize("lag", [1, 2])
def test_returns_of_the_days_that_the_vix_is_of_are_correlated(make_market, lag):
    link = Link(make_market, slope=-0.2, noise=0.01, lag=lag)
    found = analysed(link).diagnostics
    for name, count in COUNTS.items():
        expected = link.correlations(count)
        assert np.count_nonzero(expected) > 500
        # The first day released in the history is the first whose change counts.
        settled = slice(24 * 7 * (count // 5 + 2), None)
        assert found[f"correlation_{name}"][settled, 0] == pytest.approx(expected[settled])


def test_an_observation_tells_nothing_before_its_release(make_market):
    """What the VIX of a day said is known at the release, by however long that is after it."""
    early, late = (analysed(Link(make_market, slope=-0.2, lag=lag)) for lag in (1, 2))
    changed = np.any(
        early.diagnostics["correlation_30d"] != late.diagnostics["correlation_30d"], axis=1
    )
    assert changed[1000:].mean() > 0.9


@pytest.mark.parametrize(("slope", "side"), [(-0.02, 1), (0.02, -1)])
def test_the_side_is_that_of_the_link(make_market, slope, side):
    link = Link(make_market, slope=slope, noise=0.0002)
    found = run_pinned(build_strategy("vix_correlation"), link.market, start=MAY)
    close, vix = link.market.close[-len(found.direction) :, 0], link.market.macro["VIXCLS"]
    state, correlation = found.direction[:, 0], found.diagnostics["correlation_30d"][:, 0]
    assert (state[correlation * side < -0.6] == side).all()
    assert (state != 0).any()
    began = int(np.argmax(state != 0))
    stop, target = close[began] * (1 - 0.05 * side), close[began] * (1 + 0.10 * side)
    assert found.stop_loss[began, 0] == pytest.approx(stop)
    assert found.take_profit[began, 0] == pytest.approx(target)
    strength = (abs(correlation[began]) - 0.6) / 0.4
    calm = min(20.0 / vix[-len(state) + began], 1.0)
    assert found.position_size[began, 0] == pytest.approx(0.02 + 0.03 * strength * calm)
    assert ((found.position_size >= 0.02) & (found.position_size <= 0.05)).all()
    agreeing = sum(
        np.sign(found.diagnostics[f"correlation_{name}"][began, 0]) == -side for name in COUNTS
    )
    expected = abs(correlation[began]) * (0.5 + 0.5 * agreeing / 4)
    assert found.confidence[began, 0] == pytest.approx(expected)


def test_without_a_link_it_is_flat(make_market):
    found = run_pinned(
        build_strategy("vix_correlation"),
        Link(make_market, slope=0.0, noise=0.01).market,
        start=MAY,
    )
    assert (np.abs(found.diagnostics["correlation_30d"]) < 0.6).all()
    assert not found.direction.any()


def test_a_close_beyond_the_stop_ends_the_state(make_market):
    link = Link(make_market, slope=-0.02, noise=0.0002)
    hit = len(link.market.close) - 60
    for prices in (link.market.open, link.market.high, link.market.low, link.market.close):
        prices[hit:] *= 0.94
    found = analysed(link)
    assert (found.direction[hit - 24 : hit, 0] == 1).all()
    assert link.market.close[hit, 0] <= found.stop_loss[hit, 0]
    until = hit + 12  # the jump is not yet part of a day whose VIX is known
    assert (found.diagnostics["correlation_30d"][hit:until, 0] < -0.6).all()
    assert not found.direction[hit:until].any()


def test_a_new_month_enters_anew(make_market):
    link = Link(make_market, slope=-0.02, noise=0.0002)
    found = analysed(link)
    may = (MAY - FIRST) // HOUR
    assert (found.direction[may - 2 : may + 2, 0] == 1).all()
    assert found.stop_loss[may, 0] == pytest.approx(link.market.close[may, 0] * 0.95)
    assert found.stop_loss[may - 1, 0] == found.stop_loss[may - 2, 0] != found.stop_loss[may, 0]
