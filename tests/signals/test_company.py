"""Rules that compare instruments say the same of one that is asked about alone."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from collectors.selectors import strategy_instruments
from signals.company import company_of
from signals.inspection import inspect_strategy
from signals.registry import build_strategy
from signals.selectors import analyse_history

pytestmark = pytest.mark.django_db

START = datetime(2021, 5, 3, tzinfo=UTC)
FOLLOWS = {"momentum_threshold": 0.001, "leader_threshold": 0.001, "confirm_bars": 24}
RANKS = {
    "window_days": 20,
    "min_instruments": 2,
    "min_volatility": 0.0001,
    "momentum_share": 1.0,
    "residual_share": 0.0,
    "reversion_share": 0.0,
}


@pytest.mark.parametrize(("name", "parameters"), [("ether", FOLLOWS), ("multi_bucket", RANKS)])
def test_one_instrument_is_analysed_among_all_that_are_offered(stored_crash, name, parameters):
    def analysed(*coin_ids):
        return analyse_history(
            strategy_name=name,
            coin_ids=coin_ids,
            timeframe="1h",
            start=START,
            end=START + timedelta(hours=24),
            parameters=parameters,
        )

    together, alone = analysed("bitcoin", "ethereum"), analysed("ethereum")
    turned = analysed("ethereum", "bitcoin")
    assert turned.market.instruments == ("ethereum", "bitcoin")
    assert np.array_equal(turned.analysis.direction, together.analysis.direction[:, ::-1])
    assert alone.market.instruments == ("ethereum",)
    assert alone.sampled.shape == alone.analysis.direction.shape == (24, 1)
    assert together.analysis.direction[:, 1].any()
    for field in ("direction", "confidence", "stop_loss", "position_size"):
        expected = getattr(together.analysis, field)[:, 1:]
        assert np.array_equal(getattr(alone.analysis, field), expected, equal_nan=True)
    assert np.array_equal(alone.market.close, together.market.close[:, 1:])
    assert alone.analysis.diagnostics.keys() == together.analysis.diagnostics.keys()


def test_company_stands_in_the_order_of_live_runs(stored_crash):
    live = [instrument.coin_id for instrument in strategy_instruments(at=START)]
    assert live[0] != live[-1]
    comparing = [build_strategy("multi_bucket")]
    assert company_of([live[-1]], comparing, at=START) == live
    assert company_of([live[-1], "unlisted"], comparing, at=START) == [*live, "unlisted"]
    assert company_of([live[-1]], [build_strategy("momentum")], at=START) == [live[-1]]


@pytest.mark.parametrize("name", ["ether", "momentum"])
def test_a_chart_of_one_instrument_shows_what_is_said_among_all(stored_crash, clock_at, name):
    clock_at(START + timedelta(hours=24))
    end = START + timedelta(hours=24)
    shown = inspect_strategy(strategy_name=name, coin_id="ethereum", start=START, end=end)
    run = analyse_history(
        strategy_name=name,
        coin_ids=[instrument.coin_id for instrument in strategy_instruments(at=end)],
        timeframe="1h",
        start=START,
        end=end,
    )
    column = run.market.column("ethereum")
    assert np.array_equal(shown.direction, run.analysis.direction[:, column])
    for key, values in run.analysis.diagnostics.items():
        assert np.array_equal(shown.diagnostics[key], values[:, column], equal_nan=True)
