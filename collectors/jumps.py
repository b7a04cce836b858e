"""Where a better source's candles jump against those of the source that they replace. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from collectors.columns import CandleBatch, from_us
from collectors.marketdata import Candle
from collectors.quality import EXCHANGE_JUMP, Finding, compare_sources
from collectors.replacement import Plan, StoredRows

UNNAMED = "another"


def jumps(
    batch: CandleBatch,
    stored: StoredRows,
    plan: Plan,
    *,
    names: Sequence[str],
    sampled: Collection[str],
) -> list[tuple[int, Finding]]:
    """The findings of `compare_sources` about what the plan replaces by a better source, each with
    the number of its series. `names` are the sources that the stored rows' numbers mean, and
    `sampled` those of them that build candles from price samples."""
    new, old = plan.better[plan.is_better_source], plan.replaced[plan.is_better_source]
    # The narrower bound, for all of them at once; who passes is looked at alone.
    is_far = np.abs(batch.close[new] / stored.close[old] - 1.0) > EXCHANGE_JUMP
    found: list[tuple[int, Finding]] = []
    for position, row in zip(new[is_far].tolist(), old[is_far].tolist(), strict=True):
        source = int(stored.source[row])
        name = names[source] if source >= 0 else UNNAMED
        finding = compare_sources(
            _candle(
                batch, position, batch.sources[batch.source[position]], batch.sampled[position]
            ),
            _candle(stored, row, name, name in sampled),
        )
        if finding is not None:
            found.append((int(batch.series[position]), finding))
    return found


def _candle(
    columns: CandleBatch | StoredRows, position: int, source: str, is_sampled: bool
) -> Candle:
    volume = float(columns.volume[position])
    return Candle(
        open_time=from_us(int(columns.open_time[position])),
        open=float(columns.open[position]),
        high=float(columns.high[position]),
        low=float(columns.low[position]),
        close=float(columns.close[position]),
        volume=None if np.isnan(volume) else volume,
        source=source,
        is_sampled=bool(is_sampled),
    )
