"""How stored candles and macro observations become files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db.models import QuerySet

from collectors.formats.schema import CANDLE_COLUMNS, MACRO_COLUMNS, Row
from collectors.formats.tables import write_table
from collectors.marketdata import TIMEFRAMES
from collectors.models import Instrument, MacroObservation, MacroSeries, Ohlcv

CHUNK = 10_000
# Ours to the left, the column of the file to the right.
PATHS = {"instrument": "instrument__coin_id", "series": "series__series_id"}


@dataclass(frozen=True)
class Exported:
    """The file that was written, and how many rows it has."""

    file: str
    rows: int


def export_candles(
    *,
    path: Path,
    instruments: Sequence[Instrument],
    timeframe: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write the candles that open in [start, end), series by series, rising in time.

    `on_progress` is told the rows done and all of them. Reads in chunks, so that memory does not
    grow. Raises FormatError for a suffix that names no format, OSError.
    """
    timeframes = [timeframe] if timeframe else list(TIMEFRAMES)
    rows = Ohlcv.objects.filter(instrument__in=instruments, timeframe__in=timeframes)
    if start is not None:
        rows = rows.filter(open_time__gte=start)
    if end is not None:
        rows = rows.filter(open_time__lt=end)
    names = [PATHS.get(column.name, column.name) for column in CANDLE_COLUMNS]
    # One series after the other comes out of the unique index in order: nothing is sorted.
    series = [
        rows.filter(instrument=instrument, timeframe=name).order_by("open_time").values_list(*names)
        for instrument in sorted(instruments, key=lambda item: item.coin_id)
        for name in timeframes
    ]
    target, written = write_table(path, "candles", _counted(series, rows.count(), on_progress))
    return Exported(str(target), written)


def export_macro(
    *,
    path: Path,
    series: Sequence[MacroSeries],
    start: datetime | None = None,
    end: datetime | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write every vintage of the observations whose day lies in [start, end). See
    `export_candles`."""
    rows = MacroObservation.objects.filter(series__in=series)
    if start is not None:
        rows = rows.filter(date__gte=start.date())
    if end is not None:
        rows = rows.filter(date__lt=end.date())
    names = [PATHS.get(column.name, column.name) for column in MACRO_COLUMNS]
    tables = [
        rows.filter(series=item).order_by("date", "realtime_start").values_list(*names)
        for item in sorted(series, key=lambda item: item.series_id)
    ]
    target, written = write_table(path, "macro", _counted(tables, rows.count(), on_progress))
    return Exported(str(target), written)


def _counted(
    tables: Sequence[QuerySet[Any, Row]], total: int, on_progress: Callable[[int, int], None] | None
) -> Iterator[Row]:
    done = 0
    for table in tables:
        for row in table.iterator(chunk_size=CHUNK):
            yield row
            done += 1
            if on_progress is not None and done % CHUNK == 0:
                on_progress(done, total)
