"""Candles into PostgreSQL and out of it, beside bare COPY and bare mapped files."""

from __future__ import annotations

import shutil
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
from django.conf import settings
from django.db import connection, transaction

from benchmarks.measures import Measure, in_turns
from collectors import pgcopy
from collectors.marketdata import EPOCH, Candle
from collectors.models import Instrument, Ohlcv
from collectors.selectors import candle_history
from collectors.services import store_candles

BATCH, HISTORY, RUNS = 100_000, 1_000_000, 3
TIMEFRAME = "1m"
START = EPOCH + timedelta(days=17_000)
MINUTE = timedelta(minutes=1)
COLUMNS = "instrument_id, timeframe, open_time, open, high, low, close, volume, source, is_sampled, received_at"  # noqa: E501
PRICES = ("open", "high", "low", "close", "volume")


def candles(count: int, *, first: int = 0, lift: float = 0.0) -> list[Candle]:
    """A random walk of minutes."""
    rng = np.random.default_rng(first)
    close = 100.0 + lift + np.abs(np.cumsum(rng.standard_normal(count)))
    return [
        Candle(
            open_time=START + (first + minute) * MINUTE,
            open=price,
            high=price + 1.0,
            low=price - 1.0,
            close=price + 0.5,
            volume=3.0,
            source="binance",
        )
        for minute, price in enumerate(close.tolist())
    ]


def measure_upsert() -> list[Measure]:
    """100,000 new candles, and 100,000 corrections of them."""
    given = candles(BATCH)
    corrected = candles(BATCH, lift=1.0)
    new_rows, corrected_rows = _as_text(given), _as_text(corrected)
    target: list[Instrument] = []

    def fresh(_: int) -> None:
        _empty()
        number = Instrument.objects.count()
        target[:] = [Instrument.objects.create(coin_id=f"upsert-{number}", symbol="U")]

    def stored(_: int) -> None:
        fresh(0)
        ours()

    def ours() -> None:
        store_candles(instrument=target[0], timeframe=TIMEFRAME, candles=given)

    def correct() -> None:
        store_candles(instrument=target[0], timeframe=TIMEFRAME, candles=corrected)

    def orm() -> None:
        _bulk_create(target[0], given)

    new, floor, peer = in_turns(
        RUNS, ours, lambda: _copy_upsert(target[0], new_rows), orm, before=fresh
    )
    again, again_floor = in_turns(
        3, correct, lambda: _copy_upsert(target[0], corrected_rows), before=stored
    )
    return [
        Measure("upsert of 100,000 new candles", new, floor, "s", 1.5, _rate("bulk_create", peer)),
        Measure(
            "100,000 corrections, each recorded", again, again_floor, "s", None,
            "the floor overwrites and records nothing",
        ),
    ]  # fmt: skip


def _empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {Ohlcv._meta.db_table} CASCADE")


def _rate(name: str, seconds: float, rows: int = BATCH) -> str:
    return f"{name}: {seconds:.3f} s, {rows / seconds / 1000:,.0f}k rows/s"


def _as_text(given: list[Candle]) -> bytes:
    """What the floor copies, made before its time is taken."""
    at = START.isoformat()
    return "".join(
        f"{TIMEFRAME}\t{each.open_time}\t{each.open}\t{each.high}\t{each.low}\t{each.close}"
        f"\t{each.volume}\t{each.source}\t{each.is_sampled}\t{at}\n"
        for each in given
    ).encode()


def _copy_upsert(instrument: Instrument, rows: bytes) -> None:
    """Bare COPY of ready rows into a temporary table, then INSERT ... ON CONFLICT."""
    own = COLUMNS.removeprefix("instrument_id, ")
    changed = ", ".join(f"{name} = excluded.{name}" for name in (*PRICES, "source"))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMPORARY TABLE given ON COMMIT DROP AS"
            f" SELECT {own} FROM {Ohlcv._meta.db_table} WITH NO DATA"
        )
        cursor.copy_expert("COPY given FROM STDIN", BytesIO(rows))
        cursor.execute(
            f"INSERT INTO {Ohlcv._meta.db_table} ({COLUMNS}) SELECT {instrument.pk}, {own}"
            f" FROM given ON CONFLICT (instrument_id, timeframe, open_time)"
            f" DO UPDATE SET {changed}"
        )


def _bulk_create(instrument: Instrument, given: list[Candle]) -> None:
    Ohlcv.objects.bulk_create(
        [
            Ohlcv(
                instrument=instrument,
                timeframe=TIMEFRAME,
                open_time=each.open_time,
                open=each.open,
                high=each.high,
                low=each.low,
                close=each.close,
                volume=each.volume,
                source=each.source,
                received_at=START,
            )
            for each in given
        ],
        update_conflicts=True,
        unique_fields=["instrument", "timeframe", "open_time"],
        update_fields=[*PRICES, "source"],
    )


def measure_reading() -> list[Measure]:
    """A million candles into arrays: the first time, and from then on."""
    _empty()
    instrument = Instrument.objects.create(coin_id="history", symbol="H")
    for first in range(0, HISTORY, BATCH):
        part = candles(BATCH, first=first)
        store_candles(instrument=instrument, timeframe=TIMEFRAME, candles=part)
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {Ohlcv._meta.db_table}")
    folder: Path = settings.DATA_DIR / "store"

    def ours() -> None:
        end = START + HISTORY * MINUTE
        matrix = candle_history(instruments=["history"], timeframe=TIMEFRAME, start=START, end=end)
        if matrix.valid.sum() != HISTORY:
            raise RuntimeError("the history is not what was stored")

    fill, floor, peer = in_turns(
        RUNS,
        ours,
        lambda: _copy_out(instrument),
        lambda: _values_list(instrument),
        before=lambda work: shutil.rmtree(folder, ignore_errors=True),
    )
    ours()
    (path,) = folder.rglob("*.columns")
    second, mapped = in_turns(4 * RUNS, ours, lambda: _mapped_out(path))
    beside = _rate("values_list", peer, HISTORY)
    return [
        Measure("first read of 1,000,000 candles", fill, floor, "s", 1.3, beside),
        Measure(
            "second read of them", second * 1000, mapped * 1000, "ms", 2.0,
            _rate("ours", second, HISTORY),
        ),
    ]  # fmt: skip


def _copy_out(instrument: Instrument) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Bare binary COPY, read with numpy into arrays of doubles."""
    content = BytesIO()
    with connection.cursor() as cursor:
        cursor.copy_expert(
            f"COPY (SELECT open_time, {', '.join(PRICES)} FROM {Ohlcv._meta.db_table}"
            f" WHERE instrument_id = {instrument.pk} AND timeframe = '{TIMEFRAME}')"
            " TO STDOUT (FORMAT binary)",
            content,
        )
    fields = [("open_time", ">i8"), *((name, ">f8") for name in PRICES)]
    rows = pgcopy.decode(content.getbuffer(), fields)
    return [rows[name].astype(np.float64) for name, _ in fields]


def _values_list(instrument: Instrument) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rows = Ohlcv.objects.filter(instrument=instrument, timeframe=TIMEFRAME).order_by("open_time")
    return np.array(
        [(at.timestamp(), *values) for at, *values in rows.values_list("open_time", *PRICES)]
    )


def _mapped_out(path: Path) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """The mapped file's moments, prices and volumes, copied into arrays."""
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    size = 8 * HISTORY
    return [
        np.array(mapped[4096 + at * size : 4096 + (at + 1) * size].view(np.float64))
        for at in range(6)
    ]
