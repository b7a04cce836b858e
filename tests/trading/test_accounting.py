"""The books balance to the last unit, whatever is filled."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.accounting import (
    PRICE_PARTS,
    RATE_PARTS,
    apply_fill,
    count_of,
    fee,
    funding_cash,
    is_liquidated,
    maintenance_margin,
    multiply_divide,
    notional,
    roll_marks,
    slippage_cost,
    unrealised,
)
from trading.orders import MAINTENANCE_PPM, MAKER_FEE_PPM, MONEY_UNITS, TAKER_FEE_PPM

UNITS = st.sampled_from([(1, 1), (10_000, 1), (1, 100), (7, 3), (25, 2)])
TICKS = st.integers(1, 1_000_000)
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


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, 0), (15, 2), (25, 2), (-5, 0), (-15, -2), (-25, -2), (6, 1), (-6, -1), (4, 0), (14, 1)],
)
def test_what_lies_between_two_units_goes_to_the_even_one(value: int, expected: int) -> None:
    assert multiply_divide(value, 1, 10) == expected
    assert multiply_divide(value, 7, 70) == expected


@given(fills=FILLS, unit=UNITS)
def test_flips_and_partials_agree_with_exact_fractions(
    fills: list[tuple[int, int]], unit: tuple[int, int]
) -> None:
    """Cost and realised PnL of a position kept at its average cost, each within one unit for
    every operation, and nothing is realised by what only adds."""
    quantity = cost = realised = operations = 0
    held, exact_cost, exact_realised = 0, Fraction(0), Fraction(0)
    for steps, ticks in fills:
        worth = Fraction(ticks * unit[0], unit[1])
        closing = 0
        if held * steps < 0:
            closing = min(abs(held), abs(steps)) * (1 if steps > 0 else -1)
            average = exact_cost / held
            exact_realised += -closing * (worth - average)
            exact_cost += closing * average
        exact_cost += (steps - closing) * worth
        held += steps
        quantity, cost, gained = apply_fill(quantity, cost, steps, ticks, *unit)
        realised += gained
        operations += 2
        assert quantity == held
        assert gained == 0 or closing != 0
        assert abs(cost - exact_cost) <= operations
        assert abs(realised - exact_realised) <= operations


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


RATES = st.integers(-4_000_000, 4_000_000)  # 4% either way, in 1e-8
GRIDS = st.sampled_from([(1, 1), (1, 10), (1, 1000), (10, 1), (1, 100_000), (5, 100)])


@given(
    quantity=st.integers(-3_000_000_000, 3_000_000_000),
    mark=st.integers(1, 10**13),
    rate=RATES,
    step=GRIDS,
)
def test_funding_is_the_exact_fraction_rounded_once(
    quantity: int, mark: int, rate: int, step: tuple[int, int]
) -> None:
    exact = -Fraction(quantity * step[0], step[1]) * mark * Fraction(rate, RATE_PARTS)
    assert funding_cash(quantity, mark, rate, *step) == round(exact)
    assert funding_cash(-quantity, mark, rate, *step) == -round(exact)


def test_funding_by_hand() -> None:
    """A long of 1.5 BTC at a mark of 64,000.12345678 pays 0.01% = 9.60001852 quote units."""
    mark = count_of(64_000.12345678, PRICE_PARTS)
    rate = count_of(0.0001, RATE_PARTS)
    assert (mark, rate) == (6_400_012_345_678, 10_000)
    assert funding_cash(1_500, mark, rate, 1, 1000) == -960_001_852
    assert funding_cash(-1_500, mark, rate, 1, 1000) == 960_001_852
    # A negative rate is paid by the shorts, and the eighth decimal counts.
    assert funding_cash(1_500, mark, count_of(-0.00000001, RATE_PARTS), 1, 1000) == 96_000
    assert funding_cash(0, mark, rate, 1, 1000) == 0


@pytest.mark.parametrize(
    ("quantity", "expected"), [(1, 0), (3, -2), (5, -2), (-1, 0), (-3, 2), (-5, 2)]
)
def test_funding_between_two_units_goes_to_the_even_one(quantity: int, expected: int) -> None:
    half = RATE_PARTS // 2
    assert funding_cash(quantity, 1, half, 1, 1) == expected
    assert funding_cash(quantity, 10, half, 1, 10) == expected
    assert funding_cash(-quantity, 1, -half, 1, 1) == expected


@given(places=st.integers(-(10**8), 10**8))
def test_a_rate_of_eight_decimals_is_counted_exactly(places: int) -> None:
    assert count_of(float(f"{places / 10**8:.8f}"), RATE_PARTS) == places


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("fill"), st.integers(-50_000, 50_000).filter(bool), TICKS),
        st.tuples(st.just("funding"), RATES, TICKS),
    ),
    max_size=40,
)


@given(events=EVENTS, unit=UNITS, maker=st.booleans())
def test_any_sequence_of_fills_and_settlements_balances(
    events: list[tuple[str, int, int]], unit: tuple[int, int], maker: bool
) -> None:
    """Cash, open cost and what was paid away agree with exact fractions, a unit per operation.

    A step is a base unit here, so a tick is worth `unit` money units of it.
    """
    rates = MAKER_FEE_PPM if maker else TAKER_FEE_PPM
    quantity = cost = cash = operations = 0
    exact = Fraction(0)  # what every event moved, as if all were paid in full at once
    for kind, number, ticks in events:
        if kind == "fill":
            quantity, cost, realised = apply_fill(quantity, cost, number, ticks, *unit)
            amount = notional(number, ticks, *unit)
            cash += realised - fee(amount, rates["binance"])
            worth = Fraction(number * ticks * unit[0], unit[1])
            exact -= worth + abs(worth) * Fraction(rates["binance"], 10**6)
            operations += 3
        else:
            mark = ticks * unit[0]  # money units for `unit[1]` base units
            cash += funding_cash(quantity, mark, number, 1, unit[1])
            exact -= Fraction(quantity * mark * number, unit[1] * RATE_PARTS)
            operations += 1
    assert abs(cash - cost - exact) <= operations
    flat = apply_fill(quantity, cost, -quantity, 1, *unit)
    assert flat[:2] == (0, 0)


def test_slippage_is_what_was_lost_against_the_reference() -> None:
    assert slippage_cost(10, 300_010, 300_000, 10_000, 1) == 10 * 10 * 10_000
    assert slippage_cost(-10, 299_990, 300_000, 10_000, 1) == 10 * 10 * 10_000
    assert slippage_cost(10, 299_990, 300_000, 10_000, 1) == -10 * 10 * 10_000


def test_an_account_is_liquidated_at_its_maintenance_margin() -> None:
    """10,000 quote units of notional, long or short, must keep 40 on Binance and 50 on Bybit."""
    amount = 10_000 * MONEY_UNITS
    margins = {
        exchange: maintenance_margin(-amount, rate) for exchange, rate in MAINTENANCE_PPM.items()
    }
    assert margins == {"binance": 40 * MONEY_UNITS, "bybit": 50 * MONEY_UNITS}
    assert is_liquidated(margins["binance"], margins["binance"])
    assert not is_liquidated(margins["binance"] + 1, margins["binance"])
    assert is_liquidated(-1, 1)
    assert not is_liquidated(-1, 0)  # nothing is held


def test_the_first_mark_of_a_day_starts_it() -> None:
    assert roll_marks(90, 5, 100, 100, 5) == (100, 100, 5)
    assert roll_marks(110, 6, 100, 100, 5) == (110, 110, 6)
