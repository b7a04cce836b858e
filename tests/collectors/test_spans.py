"""Runs of bars: nothing lost, nothing invented."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collectors.spans import Span, grid, spans_of, without

STEP = 3_600_000
bar_sets = st.sets(st.integers(0, 60)).map(
    lambda numbers: np.array(sorted(numbers), dtype=np.int64) * STEP
)


@given(bar_sets)
def test_spans_cover_exactly_the_bars(bars: np.ndarray) -> None:
    spans = spans_of(bars, step=STEP)
    covered = [bar for span in spans for bar in grid(span.start, span.end, STEP).tolist()]
    assert covered == bars.tolist()


@given(bar_sets, st.integers(1, 20))
def test_joined_spans_cover_the_bars_and_stay_short(bars: np.ndarray, longest: int) -> None:
    separate = spans_of(bars, step=STEP)
    joined = spans_of(bars, step=STEP, longest=longest)
    assert len(joined) <= len(separate)
    assert len(without(bars, joined)) == 0
    for span in joined:
        assert span in separate or span.end - span.start <= longest * STEP


def test_without_leaves_what_lies_outside() -> None:
    bars = grid(0, 5 * STEP, STEP)
    assert without(bars, [Span(STEP, 3 * STEP)]).tolist() == [0, 3 * STEP, 4 * STEP]
