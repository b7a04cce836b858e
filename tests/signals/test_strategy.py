"""The driver: where history starts, which rows are flat, and what it refuses."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors.marketdata import from_ms
from signals.driver import history_start, run_blocks, run_pinned
from signals.registry import build_strategy
from signals.strategy import Analysis, AnalysisError, MarketError

HOUR = timedelta(hours=1)
FIRST = datetime(2021, 3, 1, tzinfo=UTC)


class Averaging:
    """Long above the running mean since the start of what it sees: depends on that start."""

    name: ClassVar[str] = "averaging"
    timeframe: ClassVar[str] = "1h"
    macro_series: ClassVar[tuple[str, ...]] = ("VIXCLS",)
    lookback = 100

    def analyze(self, market):
        count = np.arange(1, len(market.close) + 1)[:, np.newaxis]
        mean = np.cumsum(market.close, axis=0) / count
        return Analysis(
            direction=np.where(market.close > mean, 1, -1).astype(np.int8),
            confidence=np.full(market.close.shape, 0.7),
            stop_loss=mean,
            take_profit=mean * 2,
            position_size=np.full(market.close.shape, 0.02),
            diagnostics={"mean": mean},
        )

    def get_parameters(self):
        return {}


def test_history_starts_before_the_month():
    moment = datetime(2021, 5, 13, 7, tzinfo=UTC)
    assert history_start(moment, 100, "1h") == datetime(2021, 4, 26, 20, tzinfo=UTC)


def same(first: Analysis, second: Analysis) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True)
        for name in ("direction", "confidence", "stop_loss", "take_profit", "position_size")
    )


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(800, 1900), st.integers(0, 9))
def test_a_row_is_the_same_alone_and_in_the_whole(random_market, row, seed):
    market = random_market(seed=seed, bars=2000)
    strategy = Averaging()
    moment = from_ms(int(market.open_time[row]))
    whole = run_pinned(strategy, market, start=FIRST + 744 * HOUR)
    begin = int((history_start(moment, 100, "1h") - FIRST) / HOUR)
    alone = run_pinned(strategy, market.rows(begin, row + 1), start=moment, end=moment + HOUR)
    assert same(whole.rows(row - 744, row - 743), alone)


def test_each_month_has_its_own_start(random_market):
    market = random_market(seed=5, bars=2000)
    april = datetime(2021, 4, 1, tzinfo=UTC)
    found = run_pinned(Averaging(), market, start=april, end=datetime(2021, 5, 2, tzinfo=UTC))
    assert len(found.direction) == 31 * 24
    first_of_may = 30 * 24
    since_april = market.close[744 - 100 : 744 + 1].mean(axis=0)
    since_may = market.close[744 + 720 - 100 : 744 + 720 + 1].mean(axis=0)
    assert found.diagnostics["mean"][0] == pytest.approx(since_april)
    assert found.diagnostics["mean"][first_of_may] == pytest.approx(since_may)


def test_an_invalid_last_bar_is_flat(make_market):
    market = make_market(np.linspace(1.0, 2.0, 1000)[:, np.newaxis])
    valid = market.valid.copy()
    valid[900] = False
    market = dataclasses.replace(market, valid=valid)
    found = run_pinned(Averaging(), market, start=FIRST + 899 * HOUR, end=FIRST + 902 * HOUR)
    assert found.direction[:, 0].tolist() == [1, 0, 1]
    assert found.confidence[1, 0] == 0.0
    assert np.isnan(found.stop_loss[1, 0])
    assert found.position_size[1, 0] == 0.0


def test_more_than_two_percent_invalid_is_flat(make_market):
    market = make_market(np.linspace(1.0, 2.0, 1000)[:, np.newaxis])
    valid = market.valid.copy()
    valid[[800, 850, 880]] = False  # of 101 bars at most two may be invalid
    market = dataclasses.replace(market, valid=valid)
    found = run_pinned(Averaging(), market, start=FIRST + 879 * HOUR, end=FIRST + 903 * HOUR)
    assert found.direction[:, 0].tolist() == [1] + [0] * 21 + [1, 1]


def test_an_unknown_macro_value_is_flat(make_market):
    market = make_market(np.linspace(1.0, 2.0, 1000)[:, np.newaxis])
    known = np.arange(1000) >= 850
    market = dataclasses.replace(market, macro_known={"VIXCLS": known})
    found = run_pinned(Averaging(), market, start=FIRST + 840 * HOUR)
    assert not found.direction[: 10 + 98].any()  # then 99 of the 101 bars are known
    assert found.direction[10 + 98 :].all()


def test_history_that_begins_too_late_is_refused(make_market):
    market = make_market(np.ones((500, 1)))
    with pytest.raises(MarketError, match="needs history from 2021-02-24"):
        run_pinned(Averaging(), market, start=FIRST + 200 * HOUR)


def test_bars_off_the_grid_are_refused(make_market):
    market = make_market(np.ones((900, 1)))
    times = market.open_time.copy()
    times[500:] += 3_600_000
    with pytest.raises(MarketError, match="grid"):
        run_pinned(
            Averaging(), dataclasses.replace(market, open_time=times), start=FIRST + 800 * HOUR
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [("confidence", 1.5), ("confidence", np.nan), ("stop_loss", -1.0), ("position_size", 2.0)],
)
def test_an_impossible_value_names_the_bar(make_market, field, value):
    class Broken(Averaging):
        def analyze(self, market):
            analysis = super().analyze(market)
            spoiled = getattr(analysis, field).copy()
            spoiled[150] = value
            return dataclasses.replace(analysis, **{field: spoiled})

    market = make_market(np.linspace(1.0, 2.0, 900)[:, np.newaxis])
    with pytest.raises(AnalysisError, match=f"{field} .* for bitcoin at 2021-04-03 02:00"):
        run_pinned(Broken(), market, start=FIRST + 800 * HOUR)


def test_a_wrong_shape_is_refused(make_market):
    class Short(Averaging):
        def analyze(self, market):
            analysis = super().analyze(market)
            return dataclasses.replace(analysis, confidence=analysis.confidence[1:])

    with pytest.raises(AnalysisError, match="confidence is"):
        run_pinned(Short(), make_market(np.ones((900, 1))), start=FIRST + 800 * HOUR)


def test_nothing_asked_for_is_empty(make_market):
    market = make_market(np.ones((900, 2)))
    found = run_pinned(Averaging(), market, start=FIRST + 900 * HOUR)
    assert found.direction.shape == (0, 2)


def test_blocks_are_the_months_of_the_whole(random_market):
    market = random_market(seed=5, bars=4000)
    strategy = build_strategy("momentum")
    start = FIRST + 1500 * HOUR
    whole = run_pinned(strategy, market, start=start)
    blocks = list(run_blocks(strategy, market, start=start))
    assert [len(block.direction) for block in blocks] == [708, 720, 744, 328]
    assert whole.direction.any()
    for name in ("direction", "confidence", "stop_loss", "take_profit", "position_size"):
        joined = np.concatenate([getattr(block, name) for block in blocks])
        assert joined.tobytes() == getattr(whole, name).tobytes()
    assert list(run_blocks(strategy, market, start=start, end=start)) == []
