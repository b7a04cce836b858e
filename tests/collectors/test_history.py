"""Histories read through the mapped store are what the table says, whatever happened to it."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors import services
from collectors.marketdata import Candle, CandleMatrix
from collectors.models import Instrument, Ohlcv, Series
from collectors.selectors import candle_history
from tests.collectors.stored import START, compare, on_sqlite, play_histories

HOUR = timedelta(hours=1)


def hours(first: int, stop: int, *, close: float = 2.0, source: str = "bybit") -> list[Candle]:
    return [
        Candle(
            open_time=START + hour * HOUR,
            open=close,
            high=close,
            low=close,
            close=close,
            volume=1.0,
            source=source,
        )
        for hour in range(first, stop)
    ]


def read(first: int, stop: int, coin_id: str = "bitcoin") -> CandleMatrix:
    return candle_history(
        instruments=[coin_id], timeframe="1h", start=START + first * HOUR, end=START + stop * HOUR
    )


def store(instrument: Instrument, candles: list[Candle]) -> None:
    services.store_candles(instrument=instrument, timeframe="1h", candles=candles)


@pytest.fixture
def store_folder(settings: Any, tmp_path: Path) -> Path:
    """Where the mapped files of the test are."""
    settings.DATA_DIR = tmp_path
    return tmp_path / "store"


@pytest.mark.django_db(transaction=True)
@given(seed=st.integers(0, 2**32))
@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_history_is_what_the_table_says(store_folder: Path, seed: int) -> None:
    for model in (Ohlcv, Series):
        model.objects.all().delete()
    play_histories(seed)


@pytest.mark.django_db
def test_in_a_transaction_too_and_nothing_is_kept(store_folder: Path) -> None:
    play_histories(1)
    assert not store_folder.exists()


def test_on_sqlite_too(sqlite_folder: Path) -> None:
    program = "for seed in range(5): play_histories(seed)\n"
    program += "print(len(list((settings.DATA_DIR / 'store').rglob('*.columns'))))"
    assert on_sqlite(sqlite_folder, "from django.conf import settings\n" + program) == "2\n"


@pytest.mark.django_db(transaction=True)
def test_only_what_was_appended_is_read_again(bitcoin: Instrument, store_folder: Path) -> None:
    store(bitcoin, hours(0, 100))
    read(0, 100)
    # Behind the revision's back: what is read from the database again shows.
    Ohlcv.objects.filter(open_time__lt=START + 50 * HOUR).update(close=3.0, high=3.0)
    with CaptureQueriesContext(connection) as queries:
        assert set(read(0, 100).close[:, 0]) == {2.0}
    assert len(queries) == 2  # the instruments, and the revisions
    store(bitcoin, hours(100, 110, close=4.0))
    assert read(0, 110).close[:, 0].tolist() == [2.0] * 100 + [4.0] * 10
    store(bitcoin, hours(60, 61, close=5.0))
    assert read(0, 110).close[:50, 0].tolist() == [3.0] * 50
    compare(START - HOUR, START + 200 * HOUR)
    assert len(list(store_folder.rglob("*.columns"))) == 1


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_never_kept(bitcoin: Instrument, store_folder: Path) -> None:
    store(bitcoin, hours(0, 10))
    read(0, 20)
    with transaction.atomic():
        store(bitcoin, hours(10, 20, close=7.0))
        assert read(0, 20).close[-1, 0] == 7.0
        transaction.set_rollback(True)
    assert read(0, 20).valid.sum() == 10
    store(bitcoin, hours(10, 20, close=8.0))
    assert read(0, 20).close[-1, 0] == 8.0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("damage", ["truncate", "garbage", "remove", "folder"])
def test_a_broken_file_is_made_again(bitcoin: Instrument, store_folder: Path, damage: str) -> None:
    store(bitcoin, hours(0, 100))
    before = read(0, 100)
    (path,) = store_folder.rglob("*.columns")
    content = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(content[:-1])
    elif damage == "garbage":
        path.write_bytes(b"no columns")
    else:
        path.unlink()
    if damage == "folder":
        path.parent.rmdir()
        path.parent.touch()  # nothing can be kept
    assert read(0, 100).close.tobytes() == before.close.tobytes()
    if damage != "folder":
        assert path.read_bytes() == content


@pytest.mark.django_db(transaction=True)
def test_readers_see_one_state_while_it_changes(bitcoin: Instrument, store_folder: Path) -> None:
    store(bitcoin, hours(0, 600, close=1.0))
    problems: list[object] = []
    seen: set[float] = set()
    is_done = threading.Event()

    def watch() -> None:
        try:
            while not is_done.is_set():
                closes = set(read(0, 600).close[:, 0].tolist())
                seen.update(closes)
                if len(closes) != 1:
                    problems.append(closes)
        except Exception as error:
            problems.append(error)
        finally:
            connection.close()

    readers = [threading.Thread(target=watch) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for value in range(2, 25):
            store(bitcoin, hours(0, 600, close=float(value)))
    finally:
        is_done.set()
        for reader in readers:
            reader.join()
    assert problems == []
    assert len(seen) > 5
    assert set(read(0, 600).close[:, 0].tolist()) == {24.0}
