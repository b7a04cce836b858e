"""What charts are drawn from, by hand and by law."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.reports.curves import mean_exposure, monthly_returns, telling_rows

HOUR_MS = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def test_a_mark_at_midnight_ends_the_month_before_it() -> None:
    marks = {"2024-01-15": 110.0, "2024-02-01": 120.0, "2024-02-01T01:00": 60.0, "2024-04-02": 90.0}
    months = monthly_returns(
        times=[ms(text) for text in marks],
        equity=np.array(list(marks.values())),
        initial_capital=100.0,
    )
    assert [(year, month) for year, month, _ in months] == [(2024, 1), (2024, 2), (2024, 4)]
    assert [change for _, _, change in months] == pytest.approx([0.2, -0.5, 0.5])
    assert monthly_returns(times=[ms("2024-01-15")], equity=np.ones(1), initial_capital=0.0) == []


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400),
    most=st.integers(4, 50),
)
def test_fewer_points_keep_both_ends_and_all_extremes(values: list[float], most: int) -> None:
    series = np.array(values)
    rows = telling_rows([series, -series], most)
    assert (np.diff(rows) > 0).all()
    assert (rows[0], rows[-1]) == (0, len(values) - 1)
    assert len(rows) <= max(most, 4) + 4
    assert series[rows].max() == series.max()
    assert series[rows].min() == series.min()


@given(
    holdings=st.lists(
        st.tuples(st.integers(-5, 20), st.integers(0, 20), st.floats(0.0, 1e6)), max_size=8
    )
)
def test_mean_exposure_is_what_was_held_for_how_long(
    holdings: list[tuple[int, int, float]],
) -> None:
    edges = np.arange(0, 16, 5, dtype=np.int64)
    since = np.array([first for first, _, _ in holdings], dtype=np.int64)
    until = np.array([first + length for first, length, _ in holdings], dtype=np.int64)
    worth = np.array([value for _, _, value in holdings], dtype=np.float64)
    means = mean_exposure(since=since, until=until, worth=worth, edges=edges)
    for low, high, mean in zip(edges[:-1].tolist(), edges[1:].tolist(), means, strict=True):
        expected = sum(
            value * max(min(first + length, high) - max(first, low), 0)
            for first, length, value in holdings
        )
        assert mean == pytest.approx(expected / (high - low), rel=1e-9, abs=1e-6)
