"""Tables as files: what is written is read, and what is wrong is named by row and column."""

import gzip
import math
import sqlite3
import struct
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors.formats import FormatError, SchemaError
from collectors.formats.files import remove_abandoned_parts, write_new_file
from collectors.formats.schema import CANDLE_COLUMNS, read_day, read_moment
from collectors.formats.tables import TableFile, TableKind, find_tables, write_table

SUFFIXES = [".csv", ".csv.gz", ".parquet"]
MIDNIGHT = datetime(2025, 3, 3, tzinfo=UTC)

SETTINGS = settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)

doubles = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(
    min_value=datetime.fromisoformat("1970-01-01"),
    max_value=datetime.fromisoformat("2200-01-01"),
    timezones=st.just(UTC),
)
texts = st.text("abcdefghijklmnopqrstuvwxyz-,\"'0123456789", min_size=1, max_size=16)
candle_rows = st.tuples(
    texts,
    st.sampled_from(["15m", "1h", "1d"]),
    moments,
    *[doubles] * 4,
    st.none() | doubles,
    texts,
    st.booleans(),
    st.none() | moments,
)
macro_rows = st.tuples(
    texts,
    st.dates(),
    doubles,
    st.none() | st.dates(),
    st.none() | moments,
    st.none() | st.booleans(),
    st.none() | moments,
)


def bits(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows with their doubles as bytes, so that 0.0 and -0.0 differ."""
    return [
        tuple(struct.pack("<d", cell) if isinstance(cell, float) else cell for cell in row)
        for row in rows
    ]


def read(path: Path, kind: TableKind | None = None) -> list[tuple[Any, ...]]:
    return [row for table in find_tables(path, kind) for _, row in table.rows()]


def candle(hour: int = 0, **others: Any) -> tuple[Any, ...]:
    values = {
        "instrument": "bitcoin",
        "timeframe": "1h",
        "open_time": MIDNIGHT + timedelta(hours=hour),
        "open": 100.0,
        "high": 102.0,
        "low": 99.5,
        "close": 101.25,
        "volume": 12.5,
        "source": "binance",
        "is_sampled": False,
        "received_at": MIDNIGHT,
    }
    return tuple((values | others).values())


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(rows=st.lists(candle_rows, max_size=20))
def test_candles_come_back_bit_for_bit(
    tmp_path: Path, suffix: str, rows: list[tuple[Any, ...]]
) -> None:
    path, written = write_table(tmp_path / f"candles{suffix}", "candles", rows)
    assert written == len(rows)
    assert bits(read(path, "candles")) == bits(rows)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(rows=st.lists(macro_rows, max_size=20))
def test_macro_comes_back_bit_for_bit(
    tmp_path: Path, suffix: str, rows: list[tuple[Any, ...]]
) -> None:
    path, _ = write_table(tmp_path / f"macro{suffix}", "macro", rows)
    assert bits(read(path, "macro")) == bits(rows)


HEADER = ",".join(column.name for column in CANDLE_COLUMNS)
GOOD = "bitcoin,1h,2025-03-03T00:00:00+00:00,1,2,0.5,1.5,,binance,false,"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER, GOOD, GOOD.replace("1.5", "high")], "line 3, column close: 'high' is no number"),
        ([HEADER, GOOD.replace("1.5", "nan")], "line 2, column close: 'nan' is no finite number"),
        ([HEADER, GOOD.replace("1.5", "1_5")], "line 2, column close: '1_5' is no number"),
        ([HEADER, GOOD.replace("1.5", "")], "line 2, column close: is empty"),
        ([HEADER, GOOD.replace("2025-03-03", "3.3.2025")], "line 2, column open_time: "),
        ([HEADER, GOOD.replace("false", "maybe")], "line 2, column is_sampled: 'maybe' is neither"),
        ([HEADER, GOOD.replace("binance", "b" * 17)], "line 2, column source: 'bbb.* is too long"),
        ([HEADER, GOOD + ",1"], "line 2: 12 fields under 11 columns"),
        ([HEADER.replace("close", "last"), GOOD], "line 1: no column close; columns: instrument,"),
        ([HEADER + ",colour", GOOD + ",red"], "line 1: unknown column 'colour'; known: instrument"),
        (["open_time,open,high,low,close"], "line 1: no column instrument"),
        ([HEADER, '"' + GOOD], "is no CSV"),
        ([], "is empty"),
    ],
)
def test_a_wrong_csv_is_named_by_line_column_and_reason(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    path = tmp_path / "some.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(FormatError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_wrong_parquet_is_named_by_row_column_and_reason(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "bitcoin_1h.parquet"
    times = [MIDNIGHT, MIDNIGHT + timedelta(hours=1)]
    prices: dict[str, list[Any]] = {"open": [1.0, 2.0], "high": [1.0, 2.0], "low": [1.0, 2.0]}
    frame = {"open_time": times, **prices, "close": [1.0, math.inf]}
    pyarrow.parquet.write_table(pyarrow.table(frame), path)
    with pytest.raises(SchemaError, match=r"row 2, column close: inf is no finite number"):
        read(path)
    nested = {**frame, "close": [1.0, 2.0], "source": [["a"], ["b"]]}
    pyarrow.parquet.write_table(pyarrow.table(nested), path)
    with pytest.raises(SchemaError, match="row 1, column source: "):
        read(path)
    del frame["close"]
    pyarrow.parquet.write_table(pyarrow.table(frame), path)
    with pytest.raises(SchemaError, match="no column close; columns: open_time, open"):
        read(path)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.db"])
def test_rubbish_and_absence_are_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(FormatError) as caught:
        find_tables(path)
    assert str(caught.value).startswith(str(path))
    path.write_bytes(b"\x00\xff\x1f rubbish" * 100)
    with pytest.raises(FormatError) as caught:
        find_tables(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_packed_file_that_ends_early_is_no_file(tmp_path: Path) -> None:
    rows = [candle(hour) for hour in range(2000)]
    path, _ = write_table(tmp_path / "c.csv.gz", "candles", rows)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FormatError, match=r"c\.csv\.gz: cannot be unpacked"):
        read(path)


def test_plain_history_is_named_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "fetch-ai_1h.csv.gz"
    text = "open_time,open,high,low,close,volume\n2021-05-13T00:00:00Z,1,2,0.5,1.5,7\n"
    path.write_bytes(gzip.compress(text.encode()))
    moment = datetime(2021, 5, 13, tzinfo=UTC)
    expected = ("fetch-ai", "1h", moment, 1.0, 2.0, 0.5, 1.5, 7.0, "import", False, None)
    assert read(path) == [expected]
    series = tmp_path / "VIXCLS.csv"
    for header in ("observation_date,value", "observation_date,VIXCLS", "DATE,VIXCLS"):
        series.write_text(f"{header}\n2021-05-13,23.13\n2021-05-14,.\n2021-05-17,\n")
        days = [(row[0], row[1], row[2]) for row in read(series)]
        assert days == [
            ("VIXCLS", date(2021, 5, 13), 23.13),
            ("VIXCLS", date(2021, 5, 14), None),
            ("VIXCLS", date(2021, 5, 17), None),
        ]


def test_a_file_is_never_written_over_another(tmp_path: Path) -> None:
    first, _ = write_table(tmp_path / "c.csv.gz", "candles", [candle(0)])
    second, _ = write_table(tmp_path / "c.csv.gz", "candles", [candle(1)])
    third, _ = write_table(tmp_path / "c.csv.gz", "candles", [candle(2)])
    assert [path.name for path in (first, second, third)] == [
        "c.csv.gz",
        "c_2.csv.gz",
        "c_3.csv.gz",
    ]
    assert read(first, "candles") == [candle(0)]
    assert read(third, "candles") == [candle(2)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    def failing() -> Any:
        yield candle(0)
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError):
        write_table(tmp_path / f"c{suffix}", "candles", failing())
    assert list(tmp_path.iterdir()) == []


def test_abandoned_parts_are_removed_and_young_ones_are_not(tmp_path: Path) -> None:
    import os

    old, young = tmp_path / ".a.csv.x.part", tmp_path / ".b.csv.y.part"
    whole = write_new_file(tmp_path / "a.csv", lambda part: None)
    for part in (old, young):
        part.write_text("half")
    for path in (old, whole):
        os.utime(path, (0, 0))
    assert remove_abandoned_parts(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.csv.y.part", "a.csv"]


@pytest.mark.parametrize(
    "raw",
    [
        "2025-03-03T00:00:00Z",
        "2025-03-03 01:00:00+01:00",
        "2025-03-03 00:00:00",
        "2025-03-03",
        "20250303",
        "1740960000",
        1740960000,
        1740960000000,
        "1740960000000",
        1740960000.0,
        date(2025, 3, 3),
        datetime.fromisoformat("2025-03-03"),
    ],
)
def test_moments_in_every_spelling(raw: Any) -> None:
    assert read_moment(raw) == MIDNIGHT
    assert read_moment(raw).tzinfo is UTC
    assert read_day(raw) == date(2025, 3, 3)


@pytest.mark.parametrize("raw", ["", "soon", "2025-13-01", True, None, [], 1e300, "9" * 30])
def test_what_is_no_moment(raw: Any) -> None:
    with pytest.raises((ValueError, OverflowError)):
        read_moment(raw)


# -- The reference database ----------------------------------------------------------------------


def reference(path: Path, schema: str, rows: list[tuple[Any, ...]]) -> Path:
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE {schema}")
        marks = ", ".join("?" * len(rows[0]))
        table = schema.split("(")[0].strip()
        database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    database.close()
    return path


def test_the_timeframe_is_told_by_the_spacing(tmp_path: Path) -> None:
    hourly = [("bitcoin", 1740960000 + 3600 * n, 1, 2, 0.5, 1.5) for n in (0, 1, 2, 5)]
    daily = [("solana", 1740960000 + 86400 * n, 3, 3, 3, 3) for n in range(3)]
    single = [("tether", 1740960000, 1, 1.5, 1, 1)]
    path = reference(
        tmp_path / "crypto_data.db",
        "crypto_ohlcv (coin_id, timestamp, open, high, low, close)",
        [*daily, *reversed(hourly), *single],
    )
    rows = read(path)
    assert {(row[0], row[1]) for row in rows} == {
        ("bitcoin", "1h"),
        ("solana", "1d"),
        ("tether", "1h"),
    }
    assert [row[2] for row in rows[:4]] == [MIDNIGHT + timedelta(hours=n) for n in (0, 1, 2, 5)]
    assert {row[9] for row in rows if row[0] == "solana"} == {True}  # no range: price samples
    assert {row[9] for row in rows if row[0] != "solana"} == {False}


def test_volume_is_taken_only_on_trust(tmp_path: Path) -> None:
    rows = [("bitcoin", f"2025-03-03 0{n}:00:00", 1, 2, 0.5, 1.5, 9e9) for n in range(3)]
    path = reference(
        tmp_path / "crypto_data.sqlite",
        "crypto_ohlcv (asset, datetime, open, high, low, close, volume)",
        rows,
    )
    assert [row[7] for row in read(path)] == [None] * 3
    trusting = TableFile(path=path, kind="candles", trust_volume=True)
    assert [row[7] for _, row in trusting.rows()] == [9e9] * 3


@pytest.mark.parametrize(
    ("schema", "row", "message"),
    [
        ("prices (a)", (1,), "neither crypto_ohlcv nor macro_indicators is there; tables: prices"),
        (
            "crypto_ohlcv (coin_id, ts, open, high, low, close)",
            ("bitcoin", 0, 1, 1, 1, 1),
            "no column open_time .or timestamp, datetime, date, time.; columns: coin_id, ts, open",
        ),
        (
            "crypto_ohlcv (coin_id, date, open, high, low, close)",
            ("bitcoin", "soon", 1, 1, 1, 1),
            "column date: 'soon' is no ISO 8601 time",
        ),
        (
            "crypto_ohlcv (coin_id, date, open, high, low, close)",
            ("bitcoin", 1740960000, 1, 1, 1, 1),
            "no column timeframe, and too few rows to tell it",
        ),
        (
            "crypto_ohlcv (coin_id, date, open, high, low, close)",
            (7, 1740960000, 1, 1, 1, 1),
            "column coin_id: 7 is no text",
        ),
        (
            "crypto_ohlcv (coin_id, date, timeframe, open, high, low, close)",
            ("bitcoin", 1740960000, "1h", 1, "much", 1, 1),
            "row 1, column high: 'much' is no number",
        ),
        ("macro_indicators (indicator, value)", ("VIXCLS", 1), "no column date"),
    ],
)
def test_a_reference_database_that_cannot_be_read_says_what_it_has(
    tmp_path: Path, schema: str, row: tuple[Any, ...], message: str
) -> None:
    path = reference(tmp_path / "crypto_data.db", schema, [row])
    with pytest.raises(FormatError, match=message):
        read(path)


def test_a_reference_database_is_not_written_to(tmp_path: Path) -> None:
    rows = [("bitcoin", 1740960000 + 3600 * n, 1, 2, 0.5, 1.5) for n in range(3)]
    path = reference(
        tmp_path / "crypto_data.db",
        "crypto_ohlcv (coin_id, timestamp, open, high, low, close)",
        rows,
    )
    before = path.read_bytes()
    path.chmod(0o400)
    assert len(read(path)) == 3
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["crypto_data.db"]
