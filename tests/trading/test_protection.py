"""A closed bar ends a position by its stop first, and by its target only once traded through."""

import math

import pytest

from trading.orders import Grid
from trading.protection import NO_EXIT, STOP_HIT, TARGET_HIT, protective_exit
from trading.simulator import MAKER, TAKER

NAN = math.nan
GRID = Grid.of("0.01", "0.001")


@pytest.mark.parametrize(
    ("direction", "stop", "target", "bar", "expected"),
    [
        (1, 95.0, 110.0, (100.0, 105.0, 96.0), (NO_EXIT, 0)),
        (1, 95.0, 110.0, (100.0, 105.0, 95.0), (STOP_HIT, 9_499)),
        (1, 95.0, 110.0, (100.0, 110.0, 99.0), (NO_EXIT, 0)),  # touched, not traded through
        (1, 95.0, 110.0, (100.0, 110.01, 99.0), (TARGET_HIT, 11_000)),
        (1, 95.0, 110.0, (100.0, 111.0, 94.0), (STOP_HIT, 9_499)),
        (1, 95.0, 110.0, (93.0, 112.0, 92.0), (STOP_HIT, 9_299)),
        (1, 95.0, 110.0, (112.0, 113.0, 90.0), (TARGET_HIT, 11_000)),  # not at the open
        (1, 95.0, 110.0, (110.0, 110.0, 94.0), (STOP_HIT, 9_499)),
        (-1, 105.0, 90.0, (100.0, 104.0, 91.0), (NO_EXIT, 0)),
        (-1, 105.0, 90.0, (100.0, 106.0, 89.0), (STOP_HIT, 10_502)),
        (-1, 105.0, 90.0, (100.0, 101.0, 90.0), (NO_EXIT, 0)),
        (-1, 105.0, 90.0, (100.0, 101.0, 89.99), (TARGET_HIT, 9_000)),
        (-1, 105.0, 90.0, (107.0, 108.0, 80.0), (STOP_HIT, 10_702)),
        (-1, 105.0, 90.0, (88.0, 120.0, 85.0), (TARGET_HIT, 9_000)),
        (1, NAN, NAN, (100.0, 1e6, 1e-6), (NO_EXIT, 0)),
        (1, NAN, 110.0, (100.0, 111.0, 1.0), (TARGET_HIT, 11_000)),
    ],
)
def test_exits_as_a_table(
    direction: int,
    stop: float,
    target: float,
    bar: tuple[float, float, float],
    expected: tuple[int, int],
) -> None:
    leg, match = protective_exit(direction, 10, stop, target, *bar, 1.0, GRID)
    assert (leg, match.ticks) == expected
    if leg != NO_EXIT:
        assert match.steps == 10
        assert match.liquidity == (TAKER if leg == STOP_HIT else MAKER)
