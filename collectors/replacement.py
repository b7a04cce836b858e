"""Which candle replaces which. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from collectors.columns import NOW, CandleBatch, Doubles, Flags, Integers

BETTER_SOURCE, CORRECTION = "better source", "correction"


@dataclass(frozen=True, kw_only=True)
class StoredRows:
    """M stored candles that a batch may replace, in any order."""

    pk: Integers  # (M,)
    series: Integers  # (M,) as in the batch
    open_time: Integers  # (M,) epoch microseconds
    open: Doubles  # (M,)
    high: Doubles
    low: Doubles
    close: Doubles
    volume: Doubles  # NaN where there is none
    source: Integers  # (M,) position among the names that `plan` is given, -1 for any other
    received_at: Integers  # (M,) epoch microseconds


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a batch changes: positions in the batch and in the stored rows."""

    new: Integers
    better: Integers  # (R,) in the batch
    replaced: Integers  # (R,) in the stored rows
    is_better_source: Flags  # (R,) a correction otherwise

    def __bool__(self) -> bool:
        return bool(len(self.new) or len(self.better))


def plan(
    batch: CandleBatch, stored: StoredRows, *, names: Sequence[str], chains: Sequence[Sequence[str]]
) -> Plan:
    """What of the batch is new and what replaces a stored candle.

    A better source of the series' chain (`chains`, best first) replaces; the same source with
    other values is a correction, unless the candle was received before the stored one; a source
    that is worse changes nothing. `names` are the sources that the stored rows' numbers mean, those
    of the batch first. Of each series and open time the batch has one candle.
    """
    rank = _ranks(names, chains)
    bar, at = _bars(batch, stored)
    order = np.argsort(at, kind="stable")
    found = np.minimum(np.searchsorted(at, bar, sorter=order), max(len(at) - 1, 0))
    row = order[found] if len(at) else np.zeros(len(bar), dtype=np.int64)
    exists = at[row] == bar if len(at) else np.zeros(len(bar), dtype=np.bool_)
    here, there = np.flatnonzero(exists), row[exists]
    series, source = batch.series[here], batch.source[here]
    is_better = rank[series, source] < rank[series, stored.source[there]]
    received_at = batch.received_at[here]
    is_later = (received_at == NOW) | (received_at >= stored.received_at[there])
    differs = np.zeros(len(here), dtype=np.bool_)
    for name in ("open", "high", "low", "close", "volume"):
        ours, theirs = getattr(batch, name)[here], getattr(stored, name)[there]
        differs |= (ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs))
    is_correction = (source == stored.source[there]) & is_later & differs
    changes = is_better | is_correction
    return Plan(
        new=np.flatnonzero(~exists),
        better=here[changes],
        replaced=there[changes],
        is_better_source=is_better[changes],
    )


def _ranks(names: Sequence[str], chains: Sequence[Sequence[str]]) -> Integers:
    """(series, names + 1): the place of each source in each chain; last, that of any other."""
    return np.array(
        [
            [chain.index(name) if name in chain else len(chain) for name in names] + [len(chain)]
            for chain in chains
        ],
        dtype=np.int64,
    ).reshape(len(chains), len(names) + 1)


def _bars(batch: CandleBatch, stored: StoredRows) -> tuple[Integers, Integers]:
    """Series and open time of the candles, and of the rows, as one number each."""
    times = np.unique(batch.open_time)
    return (
        batch.series * len(times) + np.searchsorted(times, batch.open_time),
        np.where(
            np.isin(stored.open_time, times),
            stored.series * len(times) + np.searchsorted(times, stored.open_time),
            -1,
        ),
    )
