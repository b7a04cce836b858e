"""The books balance to the last unit, whatever is filled."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from trading.accounting import apply_fill, fee, multiply_divide, notional, roll_marks, unrealised

UNITS = st.sampled_from([(1, 1), (10_000, 1), (1, 100), (7, 3), (25, 2)])
FILLS = st.lists(
    st.tuples(
        st.integers(-1_000_000, 1_000_000).filter(bool),
        st.integers(1, 1_000_000),
    ),
    max_size=30,
)


@given(
    value=st.integers(-(2**62), 2**62), factor=st.integers(0, 10**9), divisor=st.integers(1, 10**9)
)
def test_one_rounding_half_to_even(value: int, factor: int, divisor: int) -> None:
    assert multiply_divide(value, factor, divisor) == round(Fraction(value * factor, divisor))


@given(fills=FILLS, unit=UNITS, rate=st.integers(0, 1000))
def test_cash_and_open_cost_account_for_every_unit(
    fills: list[tuple[int, int]], unit: tuple[int, int], rate: int
) -> None:
    """What was paid for everything bought and sold is either realised or still open cost."""
    quantity = cost = realised = paid = operations = 0
    exact = Fraction(0)
    for steps, ticks in fills:
        quantity, cost, gained = apply_fill(quantity, cost, steps, ticks, *unit)
        realised += gained
        operations += 2
        exact += Fraction(steps * ticks * unit[0], unit[1])
        paid += fee(notional(steps, ticks, *unit), rate)
        assert (quantity == 0) <= (cost == 0)
    assert quantity == sum(steps for steps, _ in fills)
    assert abs(cost - realised - exact) <= operations
    assert paid >= 0


@given(fills=FILLS.filter(bool), unit=UNITS, mark=st.integers(1, 1_000_000))
def test_realised_plus_unrealised_is_the_exact_result(
    fills: list[tuple[int, int]], unit: tuple[int, int], mark: int
) -> None:
    quantity = cost = realised = 0
    exact = Fraction(0)
    for steps, ticks in fills:
        quantity, cost, gained = apply_fill(quantity, cost, steps, ticks, *unit)
        realised += gained
        exact += Fraction(steps * (mark - ticks) * unit[0], unit[1])
    total = realised + unrealised(quantity, cost, mark, *unit)
    assert abs(total - exact) <= 2 * len(fills) + 1


@given(
    held=st.integers(1, 1000),
    parts=st.lists(st.integers(1, 1000), min_size=1, max_size=10),
    unit=UNITS,
    sign=st.sampled_from([1, -1]),
)
def test_closing_in_parts_leaves_nothing_behind(
    held: int, parts: list[int], unit: tuple[int, int], sign: int
) -> None:
    quantity, cost, _ = apply_fill(0, 0, sign * held, 777, *unit)
    for part in parts:
        step = -sign * min(part, abs(quantity))
        if step:
            quantity, cost, _ = apply_fill(quantity, cost, step, 555, *unit)
    quantity, cost, _ = apply_fill(quantity, cost, -quantity, 555, *unit)
    assert (quantity, cost) == (0, 0)


@given(
    held=st.integers(-1000, 1000).filter(bool),
    beyond=st.integers(1, 1000),
    first=st.integers(1, 10**6),
    second=st.integers(1, 10**6),
    unit=UNITS,
)
def test_a_flip_is_a_close_and_an_opening(
    held: int, beyond: int, first: int, second: int, unit: tuple[int, int]
) -> None:
    opened = apply_fill(0, 0, held, first, *unit)
    other_side = -beyond if held > 0 else beyond
    at_once = apply_fill(opened[0], opened[1], -held + other_side, second, *unit)
    closed = apply_fill(opened[0], opened[1], -held, second, *unit)
    in_two = apply_fill(closed[0], closed[1], other_side, second, *unit)
    assert at_once == (in_two[0], in_two[1], closed[2])


def test_a_round_trip_by_hand() -> None:
    """0.01 BTC (10 steps of 0.001) from 30,000.0 to 31,000.0 in ticks of 0.1: 10 dollars."""
    quantity, cost, _ = apply_fill(0, 0, 10, 300_000, 10_000, 1)
    assert cost == 300 * 100_000_000
    quantity, cost, realised = apply_fill(quantity, cost, -10, 310_000, 10_000, 1)
    assert (quantity, cost, realised) == (0, 0, 10 * 100_000_000)
    assert fee(notional(10, 300_000, 10_000, 1), 500) == 15_000_000


def test_the_first_mark_of_a_day_starts_it() -> None:
    assert roll_marks(90, 5, 100, 100, 5) == (100, 100, 5)
    assert roll_marks(110, 6, 100, 100, 5) == (110, 110, 6)
