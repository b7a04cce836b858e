"""Why a strategy says nothing: in words, and exactly where the driver makes it flat."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from collectors.marketdata import from_ms
from signals.driver import run_pinned
from signals.silence import ALL, MOST_NAMED, reason_of, shortened, withheld
from signals.strategy import Analysis, Market, Strategy

FIRST_ROW = 50  # the lookback reaches the first bar
BARS = 400
DAY_MS = 86_400_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlwaysLong(Strategy):
    """Wants every instrument at every bar, so that flat is the driver's doing alone."""

    name = "always_long"
    timeframe = "1h"
    macro_series = ("VIXCLS",)

    @property
    def lookback(self) -> int:
        return FIRST_ROW

    def analyze(self, market: Market) -> Analysis:
        shape = market.close.shape
        return Analysis(
            direction=np.ones(shape, dtype=np.int8),
            confidence=np.ones(shape),
            stop_loss=np.full(shape, np.nan),
            take_profit=np.full(shape, np.nan),
            position_size=np.ones(shape),
        )


def holed(make_market: Callable[..., Market], seed: int) -> Market:
    """A market with scattered holes of bars, and a stretch without a known VIX."""
    rng = np.random.default_rng(seed)
    start = datetime(2021, 5, 1, tzinfo=UTC) - FIRST_ROW * timedelta(hours=1)
    market = make_market(np.full((BARS, 4), 100.0), start=start)
    valid = rng.random((BARS, 4)) > np.array([0.0, 0.005, 0.02, 0.1])
    known = np.ones(BARS, dtype=np.bool_)
    known[200:203] = False
    return dataclasses.replace(market, valid=valid, macro_known={"VIXCLS": known})


@pytest.mark.parametrize("seed", range(3))
def test_a_reason_is_given_exactly_where_the_driver_withholds(make_market, seed) -> None:
    market = holed(make_market, seed)
    start = from_ms(int(market.open_time[FIRST_ROW]))
    analysis = run_pinned(AlwaysLong(), market, start=start)
    silent = 0
    for row in range(FIRST_ROW, BARS):
        reasons = withheld(AlwaysLong(), market, row)
        flat = analysis.direction[row - FIRST_ROW] == 0
        assert set(reasons) == {
            coin_id for coin_id, is_flat in zip(market.instruments, flat, strict=True) if is_flat
        }
        silent += len(reasons)
    assert 0 < silent < BARS * 4


def test_the_reason_names_what_is_missing(make_market) -> None:
    market = make_market(np.full((BARS, 3), 100.0))
    market.valid[300, 0] = False
    market.valid[[260, 270], 1] = False
    reasons = withheld(AlwaysLong(), market, 300)
    assert reasons == {
        market.instruments[0]: "the bar itself is missing",
        market.instruments[1]: "2 of 51 bars are missing",
    }
    market.macro_known["VIXCLS"][280] = False
    assert withheld(AlwaysLong(), market, 300)[market.instruments[1]] == (
        "2 of 51 bars are missing, and 1 lack VIXCLS"
    )


def test_an_old_value_is_told_from_an_unknown_one(make_market) -> None:
    market = make_market(np.full((BARS, 2), 100.0))
    market.macro_known["VIXCLS"][300:] = False
    unknown = dict.fromkeys(market.instruments, "VIXCLS is not known")
    assert withheld(AlwaysLong(), market, 300) == unknown
    released = np.full(BARS, int(market.open_time[300]) - 34 * DAY_MS)
    assert withheld(AlwaysLong(), market, 300, {"VIXCLS": released}) == dict.fromkeys(
        market.instruments, "VIXCLS is 34 days old"
    )
    assert withheld(AlwaysLong(), market, 300, {"VIXCLS": np.zeros(BARS, np.int64)}) == unknown


def test_what_is_kept_of_the_reasons_is_small() -> None:
    coins = [f"coin-{number:03}" for number in range(200)]
    one = dict.fromkeys(coins, "VIXCLS is not known")
    assert shortened(one, instruments=coins, assets=[]) == {ALL: "VIXCLS is not known"}
    assert shortened(one, instruments=coins, assets=["coin-007"]) == {
        "coin-007": "VIXCLS is not known"
    }
    each = {coin_id: f"{number} bars" for number, coin_id in enumerate(coins)}
    kept = shortened(each, instruments=coins, assets=[])
    assert len(kept) == MOST_NAMED + 1
    assert kept[ALL] == f"and {200 - MOST_NAMED} more"
    assert shortened({}, instruments=coins, assets=[]) == {}
    assert reason_of(kept, "coin-007") == "7 bars"
    assert reason_of(kept, "coin-199") is None
    assert reason_of({ALL: "VIXCLS is not known"}, "coin-199") == "VIXCLS is not known"
    assert reason_of({}, "coin-007") is None
