"""Runs of bars on the grid of a timeframe. Pure.

Bars are open times in epoch milliseconds, ascending (int64 arrays); a span is [start, end) in the
same unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bars = NDArray[np.int64]


class Span(NamedTuple):
    """[start, end) in epoch milliseconds."""

    start: int
    end: int


def spans_of(bars: Bars, *, step: int, longest: int = 0) -> list[Span]:
    """The bars as spans, adjacent ones joined.

    With `longest` (bars) spans are also joined over what lies between them while the joined span
    stays within it: one longer request costs less than two short ones.
    """
    spans: list[Span] = []
    for start, end in _runs(bars, step):
        if spans and end - spans[-1].start <= longest * step:
            spans[-1] = Span(spans[-1].start, end)
        else:
            spans.append(Span(start, end))
    return spans


def _runs(bars: Bars, step: int) -> list[Span]:
    if len(bars) == 0:
        return []
    breaks = np.flatnonzero(np.diff(bars) != step)
    starts = bars[np.concatenate(([0], breaks + 1))]
    ends = bars[np.concatenate((breaks, [len(bars) - 1]))] + step
    return [Span(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def grid(start: int, end: int, step: int) -> Bars:
    """Every bar of [start, end); both are on the grid."""
    return np.arange(start, max(start, end), step, dtype=np.int64)


def without(bars: Bars, spans: Sequence[Span]) -> Bars:
    """The bars that lie in none of the spans."""
    keep = np.ones(len(bars), dtype=bool)
    for span in spans:
        keep &= (bars < span.start) | (bars >= span.end)
    return bars[keep]
