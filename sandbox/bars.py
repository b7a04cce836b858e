"""Hourly candles of one coin as integers of its price tick and volume unit. Pure."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

HOUR_MS = 3_600_000


@dataclass
class HourlyBars:
    """A dense row of hours from `first_hour` (hours since 1970 UTC), with holes marked.

    `rows` has shape (5, hours): open, high, low, close in units of 10**-price_decimals and volume
    in units of 10**-volume_decimals. Where `present` is false the row holds zeros.
    """

    first_hour: int
    price_decimals: int
    volume_decimals: int
    rows: Ints = field(default_factory=lambda: np.zeros((5, 0), dtype=np.int64))
    present: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    @property
    def end_hour(self) -> int:
        """The hour after the last one held."""
        return self.first_hour + len(self.present)

    def append(self, rows: Ints) -> None:
        """Add hours without holes after the last one."""
        self.rows = np.concatenate([self.rows, rows], axis=1)
        self.present = np.concatenate([self.present, np.ones(rows.shape[1], dtype=np.bool_)])

    def between(self, start: int, stop: int) -> tuple[Ints, NDArray[np.bool_]]:
        """Rows and presence of the hours [start, stop); hours not held are holes."""
        rows = np.zeros((5, stop - start), dtype=np.int64)
        present = np.zeros(stop - start, dtype=np.bool_)
        low, high = max(start, self.first_hour), min(stop, self.end_hour)
        if low < high:
            source = slice(low - self.first_hour, high - self.first_hour)
            target = slice(low - start, high - start)
            rows[:, target] = self.rows[:, source]
            present[target] = self.present[source]
        return rows, present


def fold(rows: Ints, present: NDArray[np.bool_], size: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Aggregate candles in groups of `size`: shape (5, n * size) to (5, n), holes left out."""
    groups = rows.shape[1] // size
    shaped = rows[:, : groups * size].reshape(5, groups, size)
    held = present[: groups * size].reshape(groups, size)
    index = np.arange(groups)
    first = held.argmax(axis=1)
    last = size - 1 - held[:, ::-1].argmax(axis=1)
    limit = np.iinfo(np.int64)
    folded = np.stack(
        [
            shaped[0, index, first],
            np.where(held, shaped[1], limit.min).max(axis=1, initial=limit.min),
            np.where(held, shaped[2], limit.max).min(axis=1, initial=limit.max),
            shaped[3, index, last],
            np.where(held, shaped[4], 0).sum(axis=1),
        ]
    )
    known = np.asarray(held.any(axis=1), dtype=np.bool_)
    return np.where(known, folded, 0), known
