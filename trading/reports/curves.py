"""What charts are drawn from: months, fewer points that tell the same, exposure over time. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def monthly_returns(
    *, times: Sequence[int], equity: Floats, initial_capital: float
) -> list[tuple[int, int, float]]:
    """(year, month, simple return) of each UTC month with a mark, from the last mark before it.

    `times` are epoch milliseconds; a mark at midnight ends the month before it. A month that
    begins without equity is left out.
    """
    last: dict[tuple[int, int], float] = {}
    for time, value in zip(times, equity.tolist(), strict=True):
        moment = datetime.fromtimestamp((time - 1) / 1000, tz=UTC)
        last[moment.year, moment.month] = value
    found, before = [], initial_capital
    for (year, month), value in last.items():
        if before > 0.0:
            found.append((year, month, value / before - 1.0))
        before = value
    return found


def telling_rows(series: Sequence[Floats], most: int) -> NDArray[np.int64]:
    """At most `most` rows (and four more) of N that draw the same lines: the first, the last, and
    the lowest and highest of every series in each of equal stretches. `series` are (N,)."""
    count = len(series[0])
    if count <= most:
        return np.arange(count)
    stretches = max(most // (2 * len(series)), 1)
    edges = np.linspace(0, count, stretches + 1).astype(np.int64)
    rows = [np.array([0, count - 1])]
    for values in series:
        for first, stop in itertools.pairwise(edges.tolist()):
            part = values[first:stop]
            rows.append(first + np.array([part.argmin(), part.argmax()]))
    return np.unique(np.concatenate(rows))


def mean_exposure(
    *, since: NDArray[np.int64], until: NDArray[np.int64], worth: Floats, edges: NDArray[np.int64]
) -> Floats:
    """The mean worth (B,) that was held in each of B bins between `edges` (B + 1 moments, ms).

    N holdings of a constant `worth` (N,) from `since` to `until` (N,).
    """
    moments = np.concatenate([since, until])
    order = np.argsort(moments, kind="stable")
    moments = moments[order]
    held = np.cumsum(np.concatenate([worth, -worth])[order])
    if not len(moments):
        return np.zeros(len(edges) - 1)
    # What has been held so far, times how long, at each change; straight between them.
    integral = np.concatenate([[0.0], np.cumsum(held[:-1] * np.diff(moments))])
    at_edges = np.interp(edges, moments, integral, left=0.0, right=integral[-1])
    means: Floats = np.diff(at_edges) / np.diff(edges)
    return means
