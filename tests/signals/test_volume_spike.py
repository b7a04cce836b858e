"""Worlds of volumes worked by hand: what is a spike, and what only looks like one."""

import dataclasses
from datetime import timedelta

import numpy as np
import pytest

from signals.parameters import build_with
from signals.registry import PRESETS, build_strategy
from signals.strategies.volume_spike import VolumeSpike
from signals.strategy import Analysis, Market
from tests.signals.conftest import FIRST, MakeMarket

DAYS, DAY = 40, 24
SPIKE = 35 * DAY + 14  # the bar under test
NIGHT, AFTERNOON = 10.0, 40.0
HOLD = 24


def volumes(columns: int = 1) -> np.ndarray:
    """Forty days whose afternoons trade four times as much as their nights, in steps of a tenth
    from day to day."""
    hour = np.arange(DAYS * DAY) % DAY
    day = np.arange(DAYS * DAY) // DAY
    level = np.where((hour >= 12) & (hour < 20), AFTERNOON, NIGHT) * (1.0 + 0.1 * (day % 2))
    return np.repeat(level[:, np.newaxis], columns, axis=1)


@pytest.fixture
def quiet(make_market: MakeMarket) -> Market:
    """A price that swings by 1 in 100, bars that close at their high and at their low in turns."""
    close = 100.0 + (np.arange(DAYS * DAY) % 2)[:, np.newaxis]
    return dataclasses.replace(make_market(close, start=FIRST), volume=volumes())


def with_volume(market: Market, bar: int, volume: float) -> Market:
    """The market with another volume at one bar."""
    changed = market.volume.copy()
    changed[bar] = volume
    return dataclasses.replace(market, volume=changed)


def analysed(market: Market, **parameters: float) -> Analysis:
    """What the preset, with these parameters over it, says."""
    return build_strategy("volume_spike", parameters).analyze(market)


def active(analysis: Analysis) -> list[int]:
    """The bars that are not flat."""
    return np.flatnonzero(analysis.direction[:, 0]).tolist()


def test_a_spike_is_followed_in_the_direction_of_its_close(quiet: Market) -> None:
    for bar, direction in ((SPIKE + 1, 1), (SPIKE, -1)):  # odd bars rise, even ones fall
        found = analysed(with_volume(quiet, bar, 200.0))
        assert active(found) == list(range(bar, bar + HOLD))
        assert set(found.direction[bar : bar + HOLD, 0].tolist()) == {direction}
        # 14 of the 28 days before trade 40, the others 44: 200 is 200 / 42 of their mean.
        assert found.diagnostics["relative_volume"][bar, 0] == pytest.approx(200.0 / 42.0)
        assert found.diagnostics["volume_rank"][bar, 0] == 1.0
        assert found.diagnostics["comparable_bars"][bar, 0] == 28
        assert found.confidence[bar, 0] == 1.0  # above all, and closed at its very end
        # Each bar's range is 1, so is the average: stop 3 away, target 6.
        close = quiet.close[bar, 0]
        assert found.stop_loss[bar, 0] == pytest.approx(close - 3.0 * direction)
        assert found.take_profit[bar, 0] == pytest.approx(close + 6.0 * direction)


def test_what_is_usual_at_its_hour_is_no_spike(quiet: Market) -> None:
    afternoon = 33 * DAY + 13
    assert quiet.volume[afternoon, 0] > 3.9 * quiet.volume[afternoon - DAY // 2, 0]
    assert active(analysed(quiet)) == []
    # And what is usual in the afternoon is one at night.
    night = 33 * DAY + 3
    assert active(analysed(with_volume(quiet, night, 44.0)))[0] == night


def test_a_change_of_source_is_no_spike(quiet: Market) -> None:
    source = quiet.volume_source.copy()
    source[SPIKE - 3 :] = 2
    volume = np.where(source == 2, 10.0, 1.0) * quiet.volume
    changed = dataclasses.replace(quiet, volume=volume, volume_source=source)
    found = analysed(changed)
    assert active(found) == []
    assert found.diagnostics["too_few_comparable"][SPIKE - 4 : SPIKE, 0].tolist() == [0, 1, 1, 1]
    assert found.diagnostics["comparable_bars"][SPIKE, 0] == 0
    # The same volumes as of one source are.
    assert active(analysed(dataclasses.replace(quiet, volume=volume)))[0] == SPIKE - 3


def test_another_source_in_between_is_left_out_of_the_comparison(quiet: Market) -> None:
    source = quiet.volume_source.copy()
    source[SPIKE - 6 * DAY : SPIKE - DAY] = 2
    volume = np.where(source == 2, 10.0, 1.0) * quiet.volume
    found = analysed(
        with_volume(dataclasses.replace(quiet, volume=volume, volume_source=source), SPIKE, 200.0)
    )
    assert active(found)[0] == SPIKE
    assert found.diagnostics["comparable_bars"][SPIKE, 0] == 28 - 5
    # Days 7 to 34 before day 35; without 29 to 33, eleven odd days (44) and twelve even ones (40).
    mean = (44.0 * 11 + 40.0 * 12) / 23
    assert found.diagnostics["relative_volume"][SPIKE, 0] == pytest.approx(200.0 / mean)


def test_holes_do_not_count_and_too_few_bars_say_nothing(quiet: Market) -> None:
    valid = quiet.valid.copy()
    same_hour = np.arange(SPIKE - 28 * DAY, SPIKE, DAY)
    valid[same_hour[:14]] = False
    volume = np.where(valid, quiet.volume, 0.0)
    holes = dataclasses.replace(quiet, valid=valid, volume=volume)
    found = analysed(with_volume(holes, SPIKE, 200.0))
    assert active(found)[0] == SPIKE
    assert found.diagnostics["comparable_bars"][SPIKE, 0] == 14
    assert found.diagnostics["relative_volume"][SPIKE, 0] == pytest.approx(200.0 / 42.0)
    valid[same_hour[14]] = False
    found = analysed(with_volume(dataclasses.replace(holes, valid=valid), SPIKE, 200.0))
    assert active(found) == []
    assert found.diagnostics["too_few_comparable"][SPIKE, 0] == 1
    unmeasured = dataclasses.replace(quiet, volume_source=np.zeros_like(quiet.volume_source))
    assert active(analysed(with_volume(unmeasured, SPIKE, 200.0))) == []


def test_constant_and_zero_volume_have_no_spike(quiet: Market) -> None:
    for level in (0.0, 5.0):
        found = analysed(dataclasses.replace(quiet, volume=np.full_like(quiet.volume, level)))
        assert active(found) == []
        assert np.isfinite(found.diagnostics["relative_volume"]).all()
    # The first trade of a market in which nobody traded compares with nothing.
    silent = dataclasses.replace(quiet, volume=np.zeros_like(quiet.volume))
    assert active(analysed(with_volume(silent, SPIKE, 1e9))) == []


def test_a_bar_without_range_or_that_closes_in_the_middle_points_nowhere(quiet: Market) -> None:
    spiked = with_volume(quiet, SPIKE, 200.0)
    for high, low, close in ((100.0, 100.0, 100.0), (102.0, 100.0, 101.1)):
        prices = {"high": high, "low": low, "close": close, "open": low}
        values = {name: getattr(spiked, name).copy() for name in prices}
        for name, price in prices.items():
            values[name][SPIKE] = price
        assert active(analysed(dataclasses.replace(spiked, **values))) == []


def test_a_state_ends_by_the_other_direction_and_by_its_stop(quiet: Market) -> None:
    both = with_volume(with_volume(quiet, SPIKE, 200.0), SPIKE + 5, 200.0)
    found = analysed(both).direction[:, 0]
    assert found[SPIKE : SPIKE + 5].tolist() == [-1] * 5
    assert found[SPIKE + 5 : SPIKE + 5 + HOLD].tolist() == [1] * HOLD
    tight = analysed(with_volume(quiet, SPIKE, 200.0), stop_atr=1.0)
    assert active(tight) == [SPIKE]  # the next bar closes at 101, a range above
    # A second spike within the time of the first prolongs nothing.
    again = with_volume(with_volume(quiet, SPIKE, 200.0), SPIKE + 10, 200.0)
    assert active(analysed(again)) == list(range(SPIKE, SPIKE + HOLD))


def test_rows_are_the_same_bits_wherever_the_bars_end(quiet: Market) -> None:
    rng = np.random.default_rng(3)
    market = dataclasses.replace(
        quiet,
        volume=rng.lognormal(3.0, 1.0, quiet.volume.shape),
        volume_source=rng.choice([1, 1, 1, 2], quiet.volume.shape).astype(np.int8),
    )
    whole = analysed(market)
    assert len(active(whole)) > 100
    for cut in (1, 25, 673, 800, 901):
        part = analysed(market.rows(0, cut))
        for name in ("direction", "confidence", "stop_loss", "take_profit"):
            assert getattr(part, name).tobytes() == getattr(whole, name)[:cut].tobytes(), name
        for name, values in part.diagnostics.items():
            assert values.tobytes() == whole.diagnostics[name][:cut].tobytes(), name


def test_the_lookback_covers_what_is_compared() -> None:
    strategy = build_with(VolumeSpike, PRESETS["volume_spike"].parameters)
    assert timedelta(hours=strategy.lookback) > timedelta(days=28, hours=2 * HOLD)
