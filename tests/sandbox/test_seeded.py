"""The seeded world: the same for the same seed, and worth trading from its first day."""

import numpy as np
import pytest

from sandbox.bars import HOUR_MS
from sandbox.instruments import SEEDED
from sandbox.seeded import DAYS_BEFORE, SeededMarket

DAY_HOURS = 24
START_MS = 1_717_572_600_000


def test_the_same_however_far_it_was_asked() -> None:
    one, other = SeededMarket(4, START_MS), SeededMarket(4, START_MS)
    far = START_MS // HOUR_MS + 400 * DAY_HOURS
    one.reach(far)
    for hour in range(START_MS // HOUR_MS, far, 7 * DAY_HOURS):
        other.reach(hour)
    other.reach(far)
    assert one.vix == other.vix
    for coin in one.bars:
        assert (one.bars[coin].rows == other.bars[coin].rows).all()


@pytest.mark.parametrize("seed", [1, 2, 3, 50, 999])
def test_every_world_starts_in_a_sell_off(seed: int) -> None:
    market = SeededMarket(seed, START_MS)
    hour = START_MS // HOUR_MS - market.first_day * DAY_HOURS
    bars = market.bars["bitcoin"].rows
    peak = bars[1, hour - 14 * DAY_HOURS : hour].max()
    trough = bars[2, hour - 2 * DAY_HOURS : hour + 2 * DAY_HOURS].min()
    assert trough < 0.9 * peak
    assert min(market.vix[DAYS_BEFORE - 4 : DAYS_BEFORE + 6]) > 25


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_prices_are_the_listed_ones_at_the_start(seed: int) -> None:
    market = SeededMarket(seed, START_MS)
    hour = START_MS // HOUR_MS - market.first_day * DAY_HOURS
    for listing in SEEDED:
        close = market.bars[listing.coin].rows[3, hour] / 10**listing.price_decimals
        assert abs(close / listing.price - 1) < 0.001


def test_candles_are_valid_and_continuous() -> None:
    market = SeededMarket(8, START_MS)
    for bars in market.bars.values():
        opens, highs, lows, closes, volumes = bars.rows
        assert bars.present.all()
        assert (opens[1:] == closes[:-1]).all()
        assert (lows > 0).all() and (lows <= np.minimum(opens, closes)).all()
        assert (highs >= np.maximum(opens, closes)).all()
        assert (volumes > 0).all()


def test_coins_move_together_and_against_vix() -> None:
    market = SeededMarket(2, START_MS)
    market.reach(START_MS // HOUR_MS + 1000 * DAY_HOURS)
    daily = {coin: np.diff(np.log(bars.rows[3, 23::24])) for coin, bars in market.bars.items()}
    vix = np.diff(np.log(market.vix))[: len(daily["bitcoin"])]
    assert np.corrcoef(daily["bitcoin"], daily["ethereum"])[0, 1] > 0.8
    assert np.corrcoef(daily["bitcoin"], vix[: len(daily["bitcoin"])])[0, 1] < -0.3
    levels = np.percentile(market.vix, [10, 90])
    assert levels[0] < 17 and levels[1] > 25


def test_the_peg_holds() -> None:
    bars = SeededMarket(2, START_MS).bars["tether"].rows
    assert abs(bars[:4] / 1e6 - 1).max() < 0.002


def test_more_coins_leave_the_others_as_they_are() -> None:
    start_ms = 1_717_590_600_000
    few, more = SeededMarket(5, start_ms), SeededMarket(5, start_ms, 6)
    later = start_ms // HOUR_MS + 80 * 24
    for market in (few, more):
        market.reach(later)
    assert len(more.bars) == len(few.bars) + 6
    assert more.vix == few.vix
    for coin, bars in few.bars.items():
        assert (more.bars[coin].rows == bars.rows).all()
    added = [more.bars[coin] for coin in more.bars if coin not in few.bars]
    assert all(bars.present.all() and bars.rows[:4].min() > 0 for bars in added)
