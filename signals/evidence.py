"""What the last bars tell of the strategies: which agree, and what each would have gained. Pure.

For one instrument at one bar, from the WINDOW rows up to it: nothing of other instruments, so that
the consensus on one is the same whichever others are asked for. Everything is a sum of whole
numbers over a fixed window, and therefore the same to the last bit from wherever history begins.
It is never read from a table of results: a row knows what its own history shows, live and later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signals.aggregation import BARS, BARS_HERE, MOVED, MOVED_HERE, NET, NET_HERE, RECORD_ROWS
from signals.regime import REGIMES, RegimeArray
from signals.strategy import BoolArray, IntArray

WINDOW = 720  # bars: 30 days of hourly ones

StateArray = NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Of N cells (an instrument at a bar): as `aggregation.decide` takes it, cells last."""

    shared: IntArray  # (S, S, N)
    records: IntArray  # (RECORD_ROWS, S, N)


def evidence_of(
    states: StateArray,
    returns: IntArray,
    regime: RegimeArray,
    wanted: BoolArray,
    *,
    in_full: bool = False,
) -> Evidence:
    """The evidence at the cells of `wanted` (K, R), which are the last R of B bars.

    `states` (S, K, B) are the strategies' directions; B is at least R + WINDOW. Cells are in the
    order of `wanted`. Unless asked for `in_full`, sums that no decision can ask for are left at 0:
    overlaps of pairs that nowhere vote alike, and records where nowhere two sides meet.
    """
    count, rows = len(states), wanted.shape[1]
    seen = states[:, :, -rows - WINDOW + 1 :]
    now = states[:, :, -rows:]
    cells = int(wanted.sum())
    shared = np.zeros((count, count, cells), dtype=np.int64)
    for index in range(count):
        for other in range(index, count):
            if not (in_full or index == other or np.any(now[index] * now[other] > 0)):
                continue
            shared[index, other] = _sums(seen[index] * seen[other], WINDOW)[wanted]
            shared[other, index] = shared[index, other]
    return Evidence(shared=shared, records=_records(states, returns, regime, wanted, in_full))


def _records(
    states: StateArray,
    returns: IntArray,
    regime: RegimeArray,
    wanted: BoolArray,
    in_full: bool,
) -> IntArray:
    rows = wanted.shape[1]
    now = states[:, :, -rows:]
    found = np.zeros((RECORD_ROWS, len(states), int(wanted.sum())), dtype=np.int64)
    contested = wanted & (in_full | (np.any(now > 0, axis=0) & np.any(now < 0, axis=0)))
    if not contested.any():
        return found
    moves = returns[:, -rows - WINDOW + 1 :]
    size = np.abs(moves)
    held_in = regime[:, -rows - WINDOW : -1]  # the regime in which the state of a move was held
    here = regime[:, -rows:]
    for index, state in enumerate(states):
        held = state[:, -rows - WINDOW : -1]
        parts = (held * moves, np.abs(held) * size, np.abs(held))
        for row, part in zip((NET, MOVED, BARS), parts, strict=True):
            found[row, index] = _sums(part, WINDOW)[wanted]
        for code in range(len(REGIMES)):
            of_code = held_in == code
            is_here = (here == code) & contested
            if not is_here.any():
                continue
            at = is_here[wanted]
            for row, part in zip((NET_HERE, MOVED_HERE, BARS_HERE), parts, strict=True):
                found[row, index, at] = _sums(part * of_code, WINDOW)[is_here]
    return found


def _sums(values: NDArray[Any], window: int) -> IntArray:
    """The sums of whole windows only: (..., B - window + 1)."""
    total = np.cumsum(values, axis=-1, dtype=np.int64)
    sums = total[..., window - 1 :].copy()
    sums[..., 1:] -= total[..., :-window]
    return sums
