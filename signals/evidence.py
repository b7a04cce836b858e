"""What the last bars tell of the strategies: which agree, and what each would have gained. Pure.

For one instrument at one bar, from the WINDOW rows up to it: nothing of other instruments, so that
the consensus on one is the same whichever others are asked for. Everything is a sum of whole
numbers over a fixed window, and therefore the same to the last bit from wherever history begins.
It is never read from a table of results: a row knows what its own history shows, live and later.

This is how the sums are found at few bars; `aggregation.decide_column` carries the same sums from
bar to bar.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from signals.aggregation import RECORD_ROWS, WINDOW
from signals.regime import RegimeArray
from signals.strategy import BoolArray, IntArray

StateArray = NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Of N cells (an instrument at a bar): as `aggregation.decide` takes it, cells first."""

    shared: IntArray  # (N, S x S)
    records: IntArray  # (N, RECORD_ROWS x S)


def evidence_of(
    states: StateArray, returns: IntArray, regime: RegimeArray, wanted: BoolArray
) -> Evidence:
    """The evidence at the cells of `wanted` (K, R), which are the last R of B bars, in its order.

    `states` (S, K, B) are the strategies' directions, `returns` and `regime` (K, B); B is at least
    R + WINDOW.
    """
    count, lead = len(states), states.shape[2] - wanted.shape[1]
    cells = np.argwhere(wanted)
    shared = np.empty((len(cells), count, count), dtype=np.int64)
    records = np.empty((len(cells), RECORD_ROWS, count), dtype=np.int64)
    for cell, (column, row) in enumerate(cells.tolist()):
        stop = lead + row + 1
        seen = states[:, column, stop - WINDOW : stop].astype(np.int64)
        shared[cell] = seen @ seen.T
        # Each move was met in the state, and in the regime, of the bar before.
        met = slice(stop - WINDOW - 1, stop - 1)
        held = states[:, column, met].astype(np.int64)
        gained = held * returns[column, stop - WINDOW : stop]
        here = regime[column, met] == regime[column, stop - 1]
        parts = (gained, np.abs(gained), np.abs(held))
        for index, part in enumerate(parts):
            records[cell, index] = part.sum(axis=1)
            records[cell, index + 3] = part[:, here].sum(axis=1)
    size = len(cells)
    return Evidence(shared=shared.reshape(size, -1), records=records.reshape(size, -1))
