"""A venue's grid becomes integers exactly; wrong grids are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.orders import (
    AmountError,
    Grid,
    GridError,
    OrderError,
    OrderRequest,
    execute,
    transition,
)


def test_a_grid_is_exact() -> None:
    grid = Grid.of("0.10", "0.001")
    assert (grid.unit_num, grid.unit_den) == (10_000, 1)
    assert grid.price_text(300_005) == "30000.5"
    assert grid.quantity_text(-15) == "-0.015"
    assert grid.step_notional(300_000) == 30.0


def test_a_unit_below_the_smallest_money_is_a_ratio() -> None:
    grid = Grid.of("0.00001", "0.00001")
    assert (grid.unit_num, grid.unit_den) == (1, 100)


@given(count=st.integers(-(10**12), 10**12), places=st.integers(0, 8))
def test_texts_are_exact_decimals(count: int, places: int) -> None:
    step = f"{10**-places:.{places}f}"
    text = Grid.of("1", step).quantity_text(count)
    assert float(text) == count / 10**places


@pytest.mark.parametrize("text", ["0", "-1", "nan", "", "a", "1/3", "inf"])
def test_a_wrong_grid_is_refused(text: str) -> None:
    with pytest.raises(GridError):
        Grid.of(text, "1")


@pytest.mark.parametrize(("side", "steps"), [(0, 1), (1, 0), (1, -1), (1, 3_000_000_001)])
def test_an_impossible_order_is_refused(side: int, steps: int) -> None:
    with pytest.raises(OrderError):
        OrderRequest(side=side, steps=steps)


def test_an_execution_carries_the_books_after_it() -> None:
    grid = Grid.of("0.1", "0.001")
    bought = execute(
        OrderRequest(side=1, steps=10),
        quantity=0,
        total_cost=0,
        ticks=300_000,
        grid=grid,
        fee_ppm=500,
    )
    assert (bought.quantity_after, bought.fee, bought.realised) == (10, 15_000_000, 0)
    sold = execute(
        OrderRequest(side=-1, steps=10),
        quantity=10,
        total_cost=bought.cost_after,
        ticks=299_000,
        grid=grid,
        fee_ppm=500,
    )
    assert (sold.quantity_after, sold.cost_after, sold.realised) == (0, 0, -100_000_000)


@pytest.mark.parametrize(("held", "ticks"), [(0, 10**19), (10, 10**19), (0, 10**16)])
def test_an_amount_beyond_the_books_is_refused(held: int, ticks: int) -> None:
    with pytest.raises(AmountError):
        execute(
            OrderRequest(side=-1, steps=10),
            quantity=held,
            total_cost=held,
            ticks=ticks,
            grid=Grid.of("0.1", "0.001"),
            fee_ppm=500,
        )


@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        (0, 0, (False, False)),
        (0, 1, (False, True)),
        (1, 1, (False, False)),
        (1, 0, (True, False)),
        (1, -1, (True, True)),
        (-1, 1, (True, True)),
    ],
)
def test_a_signal_is_a_wanted_state(held: int, wanted: int, expected: tuple[bool, bool]) -> None:
    assert transition(held, wanted) == expected
