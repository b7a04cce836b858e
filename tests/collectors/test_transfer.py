"""Candles and macro observations out to files and in again, through the commands."""

import gzip
import json
import sqlite3
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase as RollsBack

from collectors.formats.tables import find_tables
from collectors.marketdata import Candle, candle_key, macro_key
from collectors.models import (
    CandleReplacement,
    Instrument,
    MacroObservation,
    MacroSeries,
    Ohlcv,
    QualityFinding,
    Series,
)
from collectors.releases import midnight_in_chicago
from collectors.services import Wanted, import_tables, store_candles
from collectors.services.imports import CHUNK
from tests.collectors.providers import NOW

START = datetime(2025, 2, 1, tzinfo=UTC)
CANDLES = ("instrument__coin_id", "timeframe", "open_time", "open", "high", "low", "close")
CANDLES += ("volume", "source", "is_sampled", "received_at")
VINTAGES = ("series__series_id", "date", "value", "realtime_start", "released_at")
VINTAGES += ("is_release_assumed", "received_at")
SUFFIXES = [".csv", ".csv.gz", ".parquet"]


def run(command: str, *arguments: Any) -> Any:
    """What the command prints with --json."""
    out = StringIO()
    call_command(command, *map(str, arguments), "--json", stdout=out, stderr=StringIO())
    return json.loads(out.getvalue())


def stored_candles() -> list[Any]:
    return list(Ohlcv.objects.order_by(*CANDLES[:3]).values_list(*CANDLES))


def stored_vintages() -> list[Any]:
    order = ("series__series_id", "date", "realtime_start")
    return list(MacroObservation.objects.order_by(*order).values_list(*VINTAGES))


def candle(hour: int, source: str = "binance", **others: Any) -> Candle:
    values: dict[str, Any] = {
        "open_time": START + timedelta(hours=hour),
        "open": 100.1,
        "high": 102.3,
        "low": 99.7,
        "close": 100.1 + 0.2,  # 100.30000000000001
        "volume": 1 / 3,
        "source": source,
        "received_at": START + timedelta(days=20, microseconds=hour),
    }
    return Candle(**values | others)


def store_some(bitcoin: Instrument) -> None:
    tether = Instrument.objects.get(coin_id="tether")
    store_candles(instrument=bitcoin, timeframe="1h", candles=[candle(n) for n in range(48)])
    quarters = [candle(0, "bybit", open_time=START + timedelta(minutes=15 * n)) for n in range(20)]
    store_candles(instrument=bitcoin, timeframe="15m", candles=quarters)
    sampled = [candle(n, "coingecko", volume=None, is_sampled=True) for n in range(10) if n != 5]
    store_candles(instrument=tether, timeframe="1h", candles=sampled)


def store_vintages() -> None:
    series = MacroSeries.objects.get(series_id="VIXCLS")
    for day, vintage, assumed in [(3, 3, True), (4, 5, False), (4, 9, False), (5, 6, False)]:
        MacroObservation.objects.create(
            series=series,
            date=date(2025, 2, day),
            value=10 + day + vintage / 10,
            realtime_start=date(2025, 2, vintage),
            released_at=midnight_in_chicago(date(2025, 2, vintage + 1)),
            is_release_assumed=assumed,
            received_at=START + timedelta(days=20, microseconds=vintage),
        )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_candles_go_out_and_come_back_the_same(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path, suffix: str
) -> None:
    store_some(bitcoin)
    before = stored_candles()
    path = tmp_path / f"all{suffix}"
    assert run("export_candles", "--output", path) == {"file": str(path), "rows": 77}
    Ohlcv.objects.all().delete()
    (result,) = run("import_candles", path)
    assert (result["rows"], result["inserted"], result["unknown"]) == (77, 77, {})
    assert stored_candles() == before
    revisions = dict(Series.objects.values_list("key", "revision"))
    (again,) = run("import_candles", path)
    assert (again["inserted"], again["replaced"], again["unchanged"]) == (0, 0, 77)
    assert stored_candles() == before
    assert dict(Series.objects.values_list("key", "revision")) == revisions
    assert revisions[candle_key("bitcoin", "1h")] == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_vintages_go_out_and_come_back_the_same(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path, suffix: str
) -> None:
    store_vintages()
    before = stored_vintages()
    path = tmp_path / f"macro{suffix}"
    assert run("export_candles", "--kind=macro", "--output", path)["rows"] == 4
    MacroObservation.objects.all().delete()
    (result,) = run("import_candles", path)
    assert (result["kind"], result["inserted"]) == ("macro", 4)
    assert stored_vintages() == before
    (again,) = run("import_candles", path)
    assert (again["inserted"], again["unchanged"]) == (0, 4)
    assert Series.objects.get(key=macro_key("VIXCLS")).revision == 1


prices = st.floats(min_value=5e-324, allow_nan=False, allow_infinity=False)


class AnyCandle(RollsBack):
    """Values that no table of examples would think of."""

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        values=st.lists(prices, min_size=4, max_size=4).map(sorted),
        volume=st.none() | st.floats(min_value=0, allow_nan=False, allow_infinity=False),
        suffix=st.sampled_from(SUFFIXES),
    )
    def test_every_double_survives(
        self, values: list[float], volume: float | None, suffix: str
    ) -> None:
        import tempfile

        instrument = Instrument.objects.create(coin_id="bitcoin", symbol="BTC", name="Bitcoin")
        low, first, last, high = values
        row = candle(0, open=first, high=high, low=low, close=last, volume=volume)
        store_candles(instrument=instrument, timeframe="1h", candles=[row])
        (before,) = stored_candles()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"one{suffix}"
            run("export_candles", "--output", path)
            Ohlcv.objects.all().delete()
            run("import_candles", path)
        assert list(map(repr, stored_candles()[0])) == list(map(repr, before))
        assert before[7] == volume


def test_an_export_is_narrowed(bitcoin: Instrument, market_now: datetime, tmp_path: Path) -> None:
    store_some(bitcoin)
    path = tmp_path / "part.csv"
    options = ("--instrument=bitcoin", "--timeframe=1h", "--start=2025-02-01T10:00")
    result = run("export_candles", *options, "--end=2025-02-01T12:00", "--output", path)
    assert result["rows"] == 2
    times = [line.split(",")[2] for line in path.read_text().splitlines()[1:]]
    assert times == ["2025-02-01T10:00:00+00:00", "2025-02-01T11:00:00+00:00"]
    second = run("export_candles", "--instrument=tether", "--output", path)
    assert second == {"file": str(tmp_path / "part_2.csv"), "rows": 9}


def test_an_import_is_narrowed(bitcoin: Instrument, market_now: datetime, tmp_path: Path) -> None:
    store_some(bitcoin)
    path = tmp_path / "all.csv"
    run("export_candles", "--output", path)
    Ohlcv.objects.all().delete()
    options = ("--instrument=bitcoin", "--timeframe=1h", "--start=2025-02-01T10:00")
    (result,) = run("import_candles", path, *options, "--end=2025-02-01T12:00")
    assert result["rows"] == result["inserted"] == Ohlcv.objects.count() == 2


def test_one_wrong_row_and_nothing_of_any_file_is_stored(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path
) -> None:
    good, bad = tmp_path / "bitcoin_1h.csv", tmp_path / "solana_1h.csv"
    lines = ["open_time,open,high,low,close,volume"]
    lines += [f"{START + timedelta(hours=n)},1,2,0.5,1.5,3" for n in range(30)]
    good.write_text("\n".join(lines))
    bad.write_text("\n".join([*lines, f"{START + timedelta(hours=30)},1,2,x,1.5,3"]))
    with pytest.raises(CommandError, match=r"solana_1h\.csv, line 32, column low: 'x'") as caught:
        run("import_candles", good, bad)
    assert caught.value.returncode == 2
    bad.write_text("\n".join([*lines, lines[3]]))
    with pytest.raises(CommandError, match="line 32, column open_time: does not rise"):
        run("import_candles", good, bad)
    assert Ohlcv.objects.count() == 0
    assert not Series.objects.exists()


def test_an_import_that_was_cut_off_goes_on(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path
) -> None:
    count = CHUNK + 500
    lines = ["open_time,open,high,low,close"]
    first = START - timedelta(hours=count)
    lines += [f"{first + timedelta(hours=n)},1,2,0.5,1.5" for n in range(count)]
    path = tmp_path / "bitcoin_1h.csv"
    path.write_text("\n".join(lines))

    def cut_off(done: int, total: int) -> None:
        assert (done, total) == (CHUNK, count)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_tables(tables=find_tables(path), wanted=Wanted(), on_progress=cut_off)
    assert Ohlcv.objects.count() == CHUNK
    (result,) = run("import_candles", path)
    assert (result["inserted"], result["unchanged"]) == (500, CHUNK)
    assert Ohlcv.objects.count() == count


def test_impossible_candles_are_recorded_and_repeated_ones_counted(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path
) -> None:
    path = tmp_path / "bitcoin_1h.csv"
    lines = ["open_time,open,high,low,close"]
    lines += [f"{START},1,2,0.5,1.5"] * 2
    lines += [f"{START + timedelta(hours=1)},1,0.4,0.5,0.45"]
    lines += [f"{NOW},1,2,0.5,1.5"]
    path.write_text("\n".join(lines))
    (result,) = run("import_candles", path)
    figures = [result[name] for name in ("rows", "inserted", "rejected", "repeated")]
    assert figures == [3, 1, 2, 1]
    assert QualityFinding.objects.filter(instrument=bitcoin, source="import").count() == 2
    row = Ohlcv.objects.get()
    assert (row.source, row.volume, row.is_sampled) == ("import", None, False)


def test_real_sources_replace_what_was_imported_and_never_the_other_way(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path
) -> None:
    store_candles(instrument=bitcoin, timeframe="1h", candles=[candle(0)])
    path = tmp_path / "bitcoin_1h.csv"
    lines = ["open_time,open,high,low,close"]
    lines += [f"{START + timedelta(hours=n)},1,2,0.5,1.5" for n in range(2)]
    path.write_text("\n".join(lines))
    (result,) = run("import_candles", path)
    assert (result["inserted"], result["unchanged"]) == (1, 1)
    store_candles(instrument=bitcoin, timeframe="1h", candles=[candle(1, "coingecko")])
    sources = Ohlcv.objects.order_by("open_time").values_list("source", flat=True)
    assert list(sources) == ["binance", "coingecko"]
    replacement = CandleReplacement.objects.get()
    assert (replacement.old_source, replacement.new_source) == ("import", "coingecko")


def test_an_old_export_does_not_undo_a_correction(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path
) -> None:
    store_candles(instrument=bitcoin, timeframe="1h", candles=[candle(0)])
    path = tmp_path / "old.parquet"
    run("export_candles", "--output", path)
    later = START + timedelta(days=25)
    corrected = candle(0, close=101.0, received_at=later)
    store_candles(instrument=bitcoin, timeframe="1h", candles=[corrected])
    (result,) = run("import_candles", path)
    assert result["unchanged"] == 1
    assert Ohlcv.objects.get().close == 101.0


def test_unknown_coins_are_named_and_made_on_request(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path
) -> None:
    path = tmp_path / "some.csv"
    lines = ["coin_id,interval,timestamp,open,high,low,close"]
    lines += [f"{coin},1h,{START},1,2,0.5,1.5" for coin in ("BTC", "monero", "No Coin")]
    path.write_text("\n".join(lines))
    (result,) = run("import_candles", path)
    assert (result["inserted"], result["unknown"]) == (1, {"No Coin": 1, "monero": 1})
    out = StringIO()
    call_command("import_candles", str(path), stdout=out, stderr=StringIO())
    assert "left out, as unknown here: No Coin (1), monero (1)" in out.getvalue()
    (result,) = run("import_candles", path, "--register")
    assert (result["inserted"], result["unknown"]) == (1, {"No Coin": 1})
    monero = Instrument.objects.get(coin_id="monero")
    assert (monero.is_enabled, monero.is_strategy_enabled) == (False, False)
    assert set(Ohlcv.objects.values_list("instrument__coin_id", flat=True)) == {
        "bitcoin",
        "monero",
    }


def test_macro_without_vintages_is_released_the_next_business_day(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path
) -> None:
    path = tmp_path / "VIXCLS.csv"
    path.write_text("observation_date,VIXCLS\n2025-02-06,17.5\n2025-02-07,16.5\n2025-02-10,.\n")
    (result,) = run("import_candles", path)
    assert (result["inserted"], result["missing"]) == (2, 1)
    thursday, friday = MacroObservation.objects.order_by("date")
    assert thursday.released_at == datetime(2025, 2, 7, 6, tzinfo=UTC)
    assert friday.released_at == datetime(2025, 2, 10, 6, tzinfo=UTC)
    assert thursday.is_release_assumed
    assert friday.is_release_assumed
    (again,) = run("import_candles", path)
    assert (again["inserted"], again["unchanged"]) == (0, 2)


def test_impossible_macro_values_are_recorded_and_not_stored(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path
) -> None:
    path = tmp_path / "VIXCLS.csv"
    path.write_text("observation_date,value\n2025-02-06,17.5\n2025-02-07,-16.5\n")
    (result,) = run("import_candles", path)
    assert (result["inserted"], result["rejected"]) == (1, 1)
    assert QualityFinding.objects.get().macro_series_id == MacroObservation.objects.get().series_id


def test_an_assumed_release_does_not_tell_a_value_before_its_vintage(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path
) -> None:
    store_vintages()
    before = stored_vintages()
    path = tmp_path / "VIXCLS.csv"
    path.write_text("observation_date,value\n2025-02-04,14.9\n2025-02-05,15.6\n")
    (result,) = run("import_candles", path)
    assert (result["inserted"], result["unchanged"]) == (0, 2)
    assert stored_vintages() == before


def reference(path: Path, *tables: tuple[str, list[tuple[Any, ...]]]) -> Path:
    database = sqlite3.connect(path)
    with database:
        for schema, rows in tables:
            database.execute(f"CREATE TABLE {schema}")
            marks = ", ".join("?" * len(rows[0]))
            database.executemany(f"INSERT INTO {schema.split()[0]} VALUES ({marks})", rows)
    database.close()
    return path


def test_a_reference_database_with_epochs(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path
) -> None:
    seconds = int(START.timestamp())
    path = reference(
        tmp_path / "crypto_data.db",
        (
            "crypto_ohlcv (id, crypto_id, timestamp, open, high, low, close, volume, market_cap)",
            [
                (9, "bitcoin", (seconds + 3600 * n) * 1000, 1, 2.0, 0.5, 1.5, 4e10, None)
                for n in range(24)
            ]
            + [(1, "bitcoin", (seconds + 3600 * 24) * 1000, None, 2.0, 0.5, 1.5, 4e10, None)]
            + [(2, "monero", seconds + 3600 * n, 1, 2.0, 0.5, 1.5, 4e10, None) for n in range(3)],
        ),
        (
            "macro_indicators (id, indicator, date, value)",
            [(1, "VIXCLS", "2025-02-06", 17.5), (2, "GOLD", "2025-02-06", 2800.0)],
        ),
    )
    candles, macro = run("import_candles", path)
    assert (candles["rows"], candles["inserted"], candles["missing"]) == (28, 24, 1)
    assert candles["unknown"] == {"monero": 3}
    assert (macro["inserted"], macro["unknown"]) == (1, {"GOLD": 1})
    assert set(Ohlcv.objects.values_list("volume", "source", "timeframe")) == {
        (None, "import", "1h")
    }
    before = stored_candles()
    again = run("import_candles", path)
    assert [item["inserted"] for item in again] == [0, 0]
    assert stored_candles() == before


def test_a_reference_database_with_iso_text(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path
) -> None:
    path = reference(
        tmp_path / "crypto_data.sqlite3",
        (
            "crypto_ohlcv (symbol TEXT, interval TEXT, open_time TEXT, open REAL, high REAL, "
            "low REAL, close REAL, volume REAL)",
            [("eth", "15m", f"2025-02-01 00:{n:02}:00", 1, 2, 0.5, 1.5, 7) for n in (0, 15, 30)],
        ),
        (
            "macro_indicators (series_id, timestamp, value, released_at)",
            [("VIXCLS", "2025-02-06T00:00:00", 17.5, "2025-02-08T06:00:00")],
        ),
    )
    candles, macro = run("import_candles", path, "--trust-volume")
    assert (candles["inserted"], macro["inserted"]) == (3, 1)
    row = Ohlcv.objects.order_by("open_time").last()
    assert row is not None
    assert (row.instrument.coin_id, row.timeframe, row.volume) == ("ethereum", "15m", 7.0)
    vintage = MacroObservation.objects.get()
    assert vintage.released_at == datetime(2025, 2, 8, 6, tzinfo=UTC)
    assert vintage.realtime_start == date(2025, 2, 7)
    assert not vintage.is_release_assumed
    (only,) = run("import_candles", path, "--kind=macro")
    assert only["kind"] == "macro"


def test_packed_replay_history_is_read(
    bitcoin: Instrument, market_now: datetime, tmp_path: Path
) -> None:
    path = tmp_path / "solana_1h.csv.gz"
    text = "open_time,open,high,low,close,volume\n2021-05-13T00:00:00Z,1,2,0.5,1.5,7\n"
    path.write_bytes(gzip.compress(text.encode()))
    (result,) = run("import_candles", path)
    assert result["inserted"] == 1
    row = Ohlcv.objects.get()
    assert (row.instrument.coin_id, row.volume, row.source) == ("solana", 7.0, "import")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["export_candles", "--kind=books"], "unknown kind 'books'"),
        (["export_candles", "--instrument=nocoin"], "unknown instrument 'nocoin'"),
        (["export_candles", "--series=NONE"], "unknown series 'NONE'"),
        (["export_candles", "--timeframe=7h"], "unknown timeframe '7h'"),
        (["export_candles", "--start=soon"], "--start: 'soon'"),
        (["export_candles", "--start=2025-01-02", "--end=2025-01-01"], "must be before"),
        (["export_candles", "--output=candles.xlsx"], "is no table by its name; known: .csv"),
        (["export_candles", "--output=/proc/none/c.csv"], "/proc/none/c.csv: cannot be written"),
        (["import_candles", "none.csv"], "none.csv: No such file"),
        (["import_candles", "none.db"], "none.db: there is no such file"),
        (["import_candles", "none.parquet"], "none.parquet: "),
        (["import_candles", "candles.json"], "is no table by its name"),
        (["import_candles", "none.csv", "--kind=books"], "unknown kind 'books'"),
        (["import_candles", "none.csv", "--instrument=nocoin"], "unknown instrument 'nocoin'"),
        (["import_candles", "none.csv", "--timeframe=7h"], "unknown timeframe '7h'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    bitcoin: Instrument, market_now: datetime, arguments: list[str], text: str
) -> None:
    with pytest.raises(CommandError, match=text) as caught:
        call_command(*arguments, stdout=StringIO(), stderr=StringIO())
    assert caught.value.returncode == 2
    assert "\n" not in str(caught.value)
