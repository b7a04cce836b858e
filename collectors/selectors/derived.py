"""The candles of derived timeframes, made on reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from collectors import spans
from collectors.columns import COLUMNS, CandleColumns, Flags, joined
from collectors.derived import DERIVED_FROM, derive
from collectors.marketdata import candle_key, duration, to_ms
from collectors.models import CandleHole, HoleLabel, Series
from collectors.selectors.columns import series_columns


@dataclass(frozen=True)
class HistoryColumns:
    """A series as it is read, and which of its candles were made from shorter ones."""

    columns: CandleColumns
    derived: Flags


def history_columns(*, ids: Mapping[str, int], timeframe: str) -> dict[str, HistoryColumns]:
    """All candles of the coins (`ids` are their instruments' keys in the database): as they are
    stored, or for a derived timeframe made from shorter ones. There a stored candle stands in
    where the shorter ones are not complete."""
    if timeframe not in DERIVED_FROM:
        stored = series_columns(ids=ids, timeframe=timeframe)
        return {
            coin_id: HistoryColumns(columns, np.zeros(len(columns), dtype=np.bool_))
            for coin_id, columns in stored.items()
        }
    base = DERIVED_FROM[timeframe]
    no_trade = _no_trade(ids, base)
    made = {
        coin_id: derive(columns, timeframe=timeframe, no_trade=no_trade.get(ids[coin_id], []))
        for coin_id, columns in series_columns(ids=ids, timeframe=base).items()
    }
    keys = {candle_key(coin_id, timeframe): coin_id for coin_id in ids}
    kept = [keys[key] for key in Series.objects.filter(key__in=keys).values_list("key", flat=True)]
    stored = series_columns(ids={coin_id: ids[coin_id] for coin_id in kept}, timeframe=timeframe)
    return {coin_id: _overlaid(columns, stored.get(coin_id)) for coin_id, columns in made.items()}


def _overlaid(made: CandleColumns, stored: CandleColumns | None) -> HistoryColumns:
    if stored is None or len(stored) == 0:
        return HistoryColumns(made, np.ones(len(made), dtype=np.bool_))
    only_stored = np.isin(stored.open_time, made.open_time, invert=True)
    extra = CandleColumns(**{name: getattr(stored, name)[only_stored] for name in COLUMNS})
    both = joined([made, extra])
    order = np.argsort(both.open_time, kind="stable")
    columns = CandleColumns(**{name: getattr(both, name)[order] for name in COLUMNS})
    return HistoryColumns(columns, order < len(made))


def _no_trade(ids: Mapping[str, int], timeframe: str) -> dict[int, list[spans.Span]]:
    """When the venues of each instrument had no trade."""
    holes = CandleHole.objects.filter(
        instrument__in=ids.values(), timeframe=timeframe, label=HoleLabel.NO_TRADE
    )
    step = duration(timeframe)
    found: dict[int, list[spans.Span]] = {}
    for instrument, start, end in holes.values_list("instrument", "start", "end"):
        found.setdefault(instrument, []).append(spans.Span(to_ms(start), to_ms(end + step)))
    return found
