"""What became of a signal: by hand, and against the rule by which fills are made."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.outcomes import HORIZONS_MS, HOUR_MS, Claim, Fate, Path, follow
from trading.orders import Grid
from trading.protection import NO_EXIT, STOP_HIT, protective_exit

WEEK = 168


def path_of(bars: list[tuple[float, float, float, float]], **flags: list[int]) -> Path:
    """Hourly bars of (open, high, low, close); flags name the bars that are not usual."""
    columns = np.array(bars, dtype=np.float64).reshape(-1, 4).T
    lacking = [*flags.get("pending", []), *flags.get("quiet", []), *flags.get("gone", [])]

    def marked(numbers: list[int]) -> np.ndarray:
        return np.isin(np.arange(len(bars)), numbers)

    return Path(
        step_ms=HOUR_MS,
        open=columns[0],
        high=columns[1],
        low=columns[2],
        close=columns[3],
        valid=~marked(lacking),
        sampled=marked(flags.get("sampled", [])),
        is_quiet=marked(flags.get("quiet", [])),
        is_gone=marked(flags.get("gone", [])),
    )


def calm(count: int, price: float = 100.0) -> list[tuple[float, float, float, float]]:
    return [(price, price, price, price)] * count


def long(**fields: object) -> Claim:
    values = {"direction": 1, "stop_loss": 95.0, "take_profit": 110.0, "entry_ms": 0, **fields}
    return Claim(**values)


def stand(fate: Fate) -> tuple[object, ...]:
    return fate.exit, fate.exit_bar, fate.exit_price, fate.is_hit


def test_forward_returns_are_those_of_the_direction_from_the_next_open() -> None:
    closes = 100.0 + np.arange(WEEK)
    path = path_of([(100.0, close, close, close) for close in closes])
    fate = follow(long(stop_loss=None, take_profit=None), path)
    assert fate.returns == pytest.approx(
        {"1h": 0.0, "4h": 0.03, "1d": 0.23, "3d": 0.71, "7d": 1.67}
    )
    short = follow(long(direction=-1, stop_loss=None, take_profit=None), path)
    assert short.returns == pytest.approx({name: -each for name, each in fate.returns.items()})
    assert (short.is_hit, fate.is_hit, fate.exit, fate.waits_for) == (False, True, "horizon", None)
    assert (fate.best_return, fate.worst_return) == pytest.approx((1.67, 0.0))


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        ((100, 101, 95, 96), ("stop", 2, 95.0, False)),
        ((100, 110.01, 99, 104), ("target", 2, 110.0, True)),
        ((100, 111, 94, 104), ("stop", 2, 95.0, False)),  # both: the stop first
        ((90, 111, 89, 104), ("stop", 2, 90.0, False)),  # a gap through the stop: the open
        ((112, 113, 80, 104), ("target", 2, 110.0, True)),  # it opened beyond it
    ],
)
def test_what_is_touched_first(bar: tuple[float, ...], expected: tuple[object, ...]) -> None:
    path = path_of([*calm(2), bar, *calm(3)])  # type: ignore[list-item]
    fate = follow(long(), path)
    assert stand(fate) == expected
    assert fate.result == pytest.approx(expected[2] / 100 - 1)  # type: ignore[operator]
    assert fate.waits_for == 23  # the next horizon: a day
    sampled = dataclasses.replace(path, sampled=np.ones(6, dtype=np.bool_))
    assert follow(long(), sampled).exit is None


def test_excursions_end_with_the_stand() -> None:
    bars = [(100, 104, 99, 101), (101, 102, 97, 98), (98, 120, 90, 119), (119, 200, 1, 150)]
    fate = follow(long(), path_of(bars))
    assert fate.exit == "stop"
    assert (fate.best_return, fate.worst_return) == pytest.approx((0.04, -0.05))
    fate = follow(long(direction=-1, stop_loss=150.0, take_profit=50.0), path_of(bars))
    assert fate.exit == "stop"  # the last bar spans both
    assert (fate.best_return, fate.worst_return) == pytest.approx((0.10, -0.50))


def test_the_next_signal_ends_the_stand_at_its_own_entry() -> None:
    path = path_of([*calm(3), (103, 120, 90, 104), *calm(2)])
    fate = follow(long(end_ms=3 * HOUR_MS), path)
    assert stand(fate) == ("state", 3, 103.0, True)
    early = follow(long(end_ms=3 * HOUR_MS), path_of(calm(3)))
    assert (early.exit, early.waits_for) == (None, 3)


def test_a_stop_above_the_entry_is_no_hit() -> None:
    fate = follow(long(stop_loss=101.0), path_of(calm(5)))
    assert (fate.exit, fate.result, fate.is_hit) == ("stop", 0.0, False)


def test_behind_a_missing_bar_that_may_come_nothing_is_said_of_the_stand() -> None:
    bars = [*calm(2), *calm(1), (100, 101, 90, 91), *calm(1)]
    fate = follow(long(), path_of(bars, pending=[2]))
    assert (fate.exit, fate.waits_for) == (None, 2)
    assert fate.returns["4h"] == pytest.approx(-0.09)  # known all the same
    gone = follow(long(), path_of(bars, gone=[2]))
    assert stand(gone) == ("stop", 3, 95.0, False)
    assert gone.missing_bars == 1
    quiet = follow(long(), path_of(bars, quiet=[2]))
    assert (quiet.exit, quiet.missing_bars) == ("stop", 0)


def test_a_return_whose_bar_nobody_has_stays_unknown() -> None:
    fate = follow(long(), path_of(calm(WEEK), gone=[0 + 3, 23]))
    assert (fate.returns["4h"], fate.returns["1d"], fate.returns["3d"]) == (None, None, 0.0)
    assert (fate.exit, fate.missing_bars, fate.waits_for) == ("horizon", 2, None)


def test_without_the_bar_of_the_entry_there_is_no_fate() -> None:
    waiting = follow(long(), path_of(calm(5), pending=[0]))
    assert (waiting.is_knowable, waiting.waits_for, waiting.entry_price) == (True, 0, None)
    for label in ("gone", "quiet"):
        never = follow(long(), path_of(calm(5), **{label: [0]}))
        assert (never.is_knowable, never.waits_for, never.is_hit) == (False, None, None)
    assert follow(long(), path_of([])).waits_for == 0


def reference(claim: Claim, path: Path) -> tuple[str, int, float] | None:
    """The first exit bar by bar, by the function that fills, on a grid of cents."""
    grid = Grid.of("0.01", "1")
    stop = math.nan if claim.stop_loss is None else claim.stop_loss
    target = math.nan if claim.take_profit is None else claim.take_profit
    for bar in range(len(path.open)):
        if path.sampled[bar]:
            continue
        candle = (float(path.open[bar]), float(path.high[bar]), float(path.low[bar]))
        leg, match = protective_exit(claim.direction, 1, stop, target, *candle, 0.0, grid)
        if leg != NO_EXIT:
            return "stop" if leg == STOP_HIT else "target", bar, grid.price(match.ticks)
    return None


LEVEL = st.none() | st.integers(8_000, 12_000).map(lambda cents: cents / 100)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), side=st.sampled_from([-1, 1]), stop=LEVEL, target=LEVEL)
def test_touches_are_those_that_fills_are_made_of(
    seed: int, side: int, stop: float | None, target: float | None
) -> None:
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(size=60) * 0.02))
    opened = np.append(100.0, close[:-1]) * np.exp(rng.normal(size=60) * 0.01)
    opened, close = np.round(opened, 2), np.round(close, 2)
    high = np.round(np.maximum(opened, close) * 1.01, 2)
    low = np.round(np.minimum(opened, close) * 0.99, 2)
    path = path_of(
        np.column_stack([opened, high, low, close]).tolist(),
        sampled=np.flatnonzero(rng.random(60) < 0.2).tolist(),
    )
    claim = Claim(direction=side, stop_loss=stop, take_profit=target, entry_ms=0)
    fate = follow(claim, path)
    expected = reference(claim, path)
    found = None if fate.exit is None else (fate.exit, fate.exit_bar, fate.exit_price)
    assert found == expected
    # What is known early is never unsaid by what comes later.
    early = follow(
        claim,
        dataclasses.replace(
            path,
            **{
                each.name: getattr(path, each.name)[:30]
                for each in dataclasses.fields(Path)
                if each.name != "step_ms"
            },
        ),
    )
    if early.exit is not None:
        assert stand(early) == stand(fate)
    assert all(early.returns[name] in (None, fate.returns[name]) for name in HORIZONS_MS)
