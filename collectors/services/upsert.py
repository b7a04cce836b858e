"""How batches of candles get into the table: by binary COPY on PostgreSQL, row by row on SQLite.

Both are used under the lock of the batch's series, in the caller's transaction. COPY of a batch
costs what COPY into a temporary table costs, and the INSERT from there is saved: what is new is
known, because the lock keeps it new.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
from django.db import connection

from collectors import pgcopy
from collectors.columns import NOW, CandleBatch, Integers, from_us, to_us
from collectors.models import CandleReplacement, Ohlcv
from collectors.replacement import BETTER_SOURCE, CORRECTION, Plan, StoredRows
from collectors.selectors.expressions import EpochSeconds

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
COPY_CHUNK = 1 << 20
# So many stored rows are read faster as columns than as objects.
COPY_FROM_ROWS = 500
STORED_FIELDS = [
    ("pk", ">i8"),
    ("instrument", ">i8"),
    ("open_time", ">i8"),
    *((name, ">f8") for name in VALUES),
    ("source", ">i4"),
    ("received_at", ">i8"),
]
CHANGES = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS candle_changes (id bigint, open float8, high float8,"
    " low float8, close float8, volume float8, source text, is_sampled boolean,"
    " received_at timestamptz, reason text) ON COMMIT DELETE ROWS"
)


def read_stored(
    *,
    instruments: Sequence[int],
    timeframe: str,
    first: datetime,
    last: datetime,
    names: Sequence[str],
    expected: int,
) -> StoredRows:
    """The stored candles in [first, last] of the instruments (their keys; their order numbers the
    series). `names` are the sources that are told apart, `expected` how many rows there may be."""
    if connection.vendor == "postgresql" and expected >= COPY_FROM_ROWS:
        rows = _copied(instruments, timeframe, first, last, names)
        columns: dict[str, Any] = {
            name: rows[name].astype(kind.replace(">", "=")) for name, kind in STORED_FIELDS
        }
        columns["source"] = columns["source"].astype(np.int64)
        columns["open_time"] += pgcopy.EPOCH_US
        columns["received_at"] += pgcopy.EPOCH_US
    else:
        columns = _fetched(instruments, timeframe, first, last, names)
    keys = np.array(instruments, dtype=np.int64)
    order = np.argsort(keys)
    series = order[np.searchsorted(keys, columns.pop("instrument"), sorter=order)]
    return StoredRows(series=series, **columns)


def write_changes(
    *, batch: CandleBatch, instruments: Sequence[int], timeframe: str, plan: Plan,
    stored: StoredRows, now: datetime,
) -> None:  # fmt: skip
    """Insert what is new, replace what is better, and record each replacement at `now`."""
    received = np.where(batch.received_at == NOW, to_us(now), batch.received_at)
    keys = np.array(instruments, dtype=np.int64)[batch.series]
    is_copied = connection.vendor == "postgresql"
    if len(plan.new):
        insert = _copy_in if is_copied else _insert
        insert(batch.take(plan.new), keys[plan.new], timeframe, received[plan.new])
    if len(plan.better):
        replace = _copy_over if is_copied else _update
        replace(batch.take(plan.better), received[plan.better], plan, stored, now)


# -- PostgreSQL --------------------------------------------------------------------------------


def _copied(
    instruments: Sequence[int],
    timeframe: str,
    first: datetime,
    last: datetime,
    names: Sequence[str],
) -> pgcopy.Records:
    query = (
        "SELECT id, instrument_id, open_time, open, high, low, close, coalesce(volume, 'NaN'),"
        " coalesce(array_position(%s::text[], source::text), 0) - 1, received_at"
        f" FROM {Ohlcv._meta.db_table}"
        " WHERE instrument_id = ANY(%s) AND timeframe = %s AND open_time >= %s AND open_time <= %s"
    )
    content = BytesIO()
    with connection.cursor() as cursor:
        parameters = (list(names), list(instruments), timeframe, first, last)
        sql = cursor.mogrify(query, parameters).decode()
        cursor.copy_expert(f"COPY ({sql}) TO STDOUT (FORMAT binary)", content)
    return pgcopy.decode(content.getbuffer(), STORED_FIELDS)


def _copy(target: str, records: Iterator[bytes]) -> None:
    content = BytesIO(b"".join((pgcopy.HEADER, *records, pgcopy.TRAILER)))
    with connection.cursor() as cursor:
        sql = f"COPY {target} FROM STDIN (FORMAT binary)"
        cursor.copy_expert(sql, content, COPY_CHUNK)


def _copy_in(batch: CandleBatch, keys: Integers, timeframe: str, received: Integers) -> None:
    def records() -> Iterator[bytes]:
        for rows in _alike(batch):
            yield pgcopy.encode(
                {
                    "instrument_id": keys[rows].astype(">i8"),
                    "timeframe": timeframe.encode(),
                    "open_time": _pg_moments(batch.open_time[rows]),
                    **_pg_values(batch, rows, received),
                },
                len(rows),
            )

    columns = f"instrument_id, timeframe, open_time, {', '.join(VALUES)}, source, is_sampled"
    _copy(f"{Ohlcv._meta.db_table} ({columns}, received_at)", records())


def _copy_over(
    batch: CandleBatch, received: Integers, plan: Plan, stored: StoredRows, now: datetime
) -> None:
    def records() -> Iterator[bytes]:
        pks = stored.pk[plan.replaced]
        for is_better, reason in ((True, BETTER_SOURCE), (False, CORRECTION)):
            for rows in _alike(batch, np.flatnonzero(plan.is_better_source == is_better)):
                yield pgcopy.encode(
                    {
                        "id": pks[rows].astype(">i8"),
                        **_pg_values(batch, rows, received),
                        "reason": reason.encode(),
                    },
                    len(rows),
                )

    with connection.cursor() as cursor:
        cursor.execute(CHANGES)
        cursor.execute("DELETE FROM candle_changes")
    columns = f"id, {', '.join(VALUES)}, source, is_sampled, received_at, reason"
    _copy(f"candle_changes ({columns})", records())
    old = ", ".join(f"'{name}', old.{name}" for name in VALUES)
    new = ", ".join(
        f"{name} = new.{name}" for name in (*VALUES, "source", "is_sampled", "received_at")
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {CandleReplacement._meta.db_table}"
            " (candle_id, old_values, old_source, new_source, reason, replaced_at)"
            f" SELECT id, jsonb_build_object({old}), old.source, new.source, reason, %s"
            f" FROM candle_changes new JOIN {Ohlcv._meta.db_table} old USING (id)",
            (now,),
        )
        cursor.execute(
            f"UPDATE {Ohlcv._meta.db_table} old SET {new} FROM candle_changes new"
            " WHERE old.id = new.id"
        )


def _alike(batch: CandleBatch, rows: Integers | None = None) -> Iterator[Integers]:
    """The positions in runs whose records have one length: of one source, volume or none."""
    wanted = np.arange(len(batch)) if rows is None else rows
    kind = batch.source[wanted] * 2 + batch.has_volume[wanted]
    for each in np.unique(kind):
        yield wanted[kind == each]


def _pg_values(batch: CandleBatch, rows: Integers, received: Integers) -> dict[str, Any]:
    first = rows[0]
    return {
        **{name: getattr(batch, name)[rows].astype(">f8") for name in PRICES},
        "volume": batch.volume[rows].astype(">f8") if batch.has_volume[first] else None,
        "source": batch.sources[batch.source[first]].encode(),
        "is_sampled": batch.sampled[rows],
        "received_at": _pg_moments(received[rows]),
    }


def _pg_moments(moments: Integers) -> Any:
    return (moments - pgcopy.EPOCH_US).astype(">i8")


# -- Any database ------------------------------------------------------------------------------


def _fetched(
    instruments: Sequence[int],
    timeframe: str,
    first: datetime,
    last: datetime,
    names: Sequence[str],
) -> dict[str, Any]:
    candles = Ohlcv.objects.filter(
        instrument__in=instruments, timeframe=timeframe, open_time__gte=first, open_time__lte=last
    )
    rows = list(
        candles.order_by()
        .annotate(seconds=EpochSeconds("open_time"))
        .values_list("pk", "instrument", "seconds", *VALUES, "source", "received_at")
    )
    codes = {name: code for code, name in enumerate(names)}
    cells: list[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(STORED_FIELDS)
    columns: dict[str, Any] = {
        name: np.array(values, dtype=np.float64 if kind == ">f8" else np.int64)
        for (name, kind), values in zip(STORED_FIELDS[:8], cells, strict=False)
    }
    columns["open_time"] *= 1_000_000
    columns["source"] = np.array([codes.get(name, -1) for name in cells[8]], dtype=np.int64)
    columns["received_at"] = np.array([to_us(moment) for moment in cells[9]], dtype=np.int64)
    return columns


def _rows(batch: CandleBatch, received: Integers) -> Iterator[tuple[Any, ...]]:
    """Open time, prices, volume, source, sampled, received: as the database takes them."""
    adapt = connection.ops.adapt_datetimefield_value
    volumes = [
        volume if is_there else None
        for volume, is_there in zip(batch.volume.tolist(), batch.has_volume.tolist(), strict=True)
    ]
    for moment, *values, code, sampled, at in zip(
        batch.open_time.tolist(),
        *(getattr(batch, name).tolist() for name in PRICES),
        volumes,
        batch.source.tolist(),
        batch.sampled.tolist(),
        received.tolist(),
        strict=True,
    ):
        moments = adapt(from_us(moment)), adapt(from_us(at))
        yield moments[0], *values, batch.sources[code], sampled, moments[1]


def _insert(batch: CandleBatch, keys: Integers, timeframe: str, received: Integers) -> None:
    columns = f"open_time, {', '.join(VALUES)}, source, is_sampled, received_at"
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {Ohlcv._meta.db_table} (instrument_id, timeframe, {columns})"
            f" VALUES ({', '.join(['%s'] * 11)})",
            [
                (key, timeframe, *row)
                for key, row in zip(keys.tolist(), _rows(batch, received), strict=True)
            ],
        )


def _update(
    batch: CandleBatch, received: Integers, plan: Plan, stored: StoredRows, now: datetime
) -> None:
    pks = stored.pk[plan.replaced].tolist()
    at = connection.ops.adapt_datetimefield_value(now)
    columns = [getattr(stored, name)[plan.replaced].tolist() for name in VALUES]
    old_values = zip(*columns, strict=True)
    rows = list(_rows(batch, received))
    replacements = [
        (
            json.dumps({k: None if v != v else v for k, v in zip(VALUES, old, strict=True)}),
            row[6],
            BETTER_SOURCE if is_better else CORRECTION,
            at,
            pk,
        )
        for pk, old, row, is_better in zip(
            pks, old_values, rows, plan.is_better_source.tolist(), strict=True
        )
    ]
    changed = ", ".join(f"{name} = %s" for name in (*VALUES, "source", "is_sampled", "received_at"))
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {CandleReplacement._meta.db_table}"
            " (candle_id, old_values, old_source, new_source, reason, replaced_at)"
            f" SELECT id, %s, source, %s, %s, %s FROM {Ohlcv._meta.db_table} WHERE id = %s",
            replacements,
        )
        cursor.executemany(
            f"UPDATE {Ohlcv._meta.db_table} SET {changed} WHERE id = %s",
            [(*row[1:], pk) for pk, row in zip(pks, rows, strict=True)],
        )
