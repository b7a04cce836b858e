"""A mapped series is what was written, for the version it was written as, or absent."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from collectors import store
from collectors.columns import COLUMNS, CandleColumns
from collectors.store import Version, find_series, write_series

KEY = "candles:bitcoin:1h"


def series(rows: int, *, seed: int = 0) -> CandleColumns:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((5, rows))
    values[4, ::3] = np.nan
    return CandleColumns(
        open_time=np.arange(rows, dtype=np.int64) * 3_600_000,
        open=values[0],
        high=values[1],
        low=values[2],
        close=values[3],
        volume=values[4],
        volume_source=np.where(np.isnan(values[4]), 0, rng.integers(0, 6, rows)).astype(np.int8),
        sampled=rng.random(rows) < 0.5,
    )


def same(one: CandleColumns, other: CandleColumns) -> bool:
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in COLUMNS)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_what_is_written_is_read_bit_for_bit(tmp_path: Path, rows: int) -> None:
    version = Version("a", 3)
    assert find_series(tmp_path, KEY, version) is None
    written = write_series(tmp_path, KEY, version, series(rows))
    read = find_series(tmp_path, KEY, version)
    assert read is not None
    assert read.version == version
    assert same(read.columns, series(rows))
    assert same(written.columns, series(rows))
    with pytest.raises(ValueError, match="read-only"):
        read.columns.close[:] = 1.0


def test_the_newest_earlier_version_of_the_same_series_stands_in(tmp_path: Path) -> None:
    write_series(tmp_path, KEY, Version("a", 3), series(10))
    early = find_series(tmp_path, KEY, Version("a", 9))
    assert early is not None
    assert early.version.revision == 3
    for other in (Version("a", 2), Version("b", 9)):
        assert find_series(tmp_path, KEY, other) is None
    assert find_series(tmp_path, "candles:bitcoin:15m", Version("a", 3)) is None


def test_only_the_newest_file_stays_and_readers_keep_theirs(tmp_path: Path) -> None:
    old = write_series(tmp_path, KEY, Version("a", 3), series(1000, seed=3))
    write_series(tmp_path, KEY, Version("elsewhere", 50), series(10))
    new = write_series(tmp_path, KEY, Version("a", 4), series(1001, seed=4))
    late = write_series(tmp_path, KEY, Version("a", 3), series(1000, seed=3))
    assert files(tmp_path) == ["4-a.columns"]
    assert same(old.columns, series(1000, seed=3))
    assert same(late.columns, series(1000, seed=3))
    assert same(new.columns, series(1001, seed=4))


def test_no_foreign_or_broken_file_is_read(tmp_path: Path) -> None:
    version = Version("a", 3)
    write_series(tmp_path, KEY, version, series(100))
    (path,) = tmp_path.rglob("*.columns")
    good = path.read_bytes()
    other_version = good[:8] + b"\1\0\0\0" + good[12:]
    more_rows = good[:20] + (101).to_bytes(8, "little") + good[28:]
    header_bit = good[:200] + b"\1" + good[201:]
    for broken in (
        b"",
        b"anything",
        good[:-1],
        good + b"\0",
        good[:4096],
        b"x" + good[1:],
        other_version,
        more_rows,
        header_bit,
    ):
        path.write_bytes(broken)
        assert find_series(tmp_path, KEY, version) is None, len(broken)
    # A good file under another's name is none.
    path.write_bytes(good)
    path.rename(path.with_name("4-a.columns"))
    assert find_series(tmp_path, KEY, Version("a", 4)) is None
    assert find_series(tmp_path, KEY, Version("a", 5)) is None
    write_series(tmp_path, KEY, Version("a", 5), series(7))
    assert files(tmp_path) == ["5-a.columns"]


def test_what_a_killed_writer_left_is_removed_in_time(tmp_path: Path) -> None:
    write_series(tmp_path, KEY, Version("a", 3), series(1))
    (home,) = tmp_path.iterdir()
    (home / ".fresh").touch()
    (home / ".left").touch()
    os.utime(home / ".left", (0, 0))
    write_series(tmp_path, KEY, Version("a", 4), series(1))
    assert files(tmp_path) == [".fresh", "4-a.columns"]


def test_a_folder_that_takes_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_series(tmp_path / "file", KEY, Version("a", 3), series(1))


def test_a_file_from_before_the_machines_start_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path, KEY, Version("a", 3), series(1))
    boot = tmp_path / "boot_id"
    boot.write_text("another start")
    monkeypatch.setattr(store, "BOOT_ID", boot)
    store._boot.cache_clear()
    try:
        assert find_series(tmp_path, KEY, Version("a", 3)) is None
    finally:
        store._boot.cache_clear()


def fill(folder: Path, worker: int) -> None:
    for revision in range(1, 40):
        version = Version("a", revision + worker % 2)
        columns = series(revision * 50, seed=version.revision)
        assert same(write_series(folder, KEY, version, columns).columns, columns)
        read = find_series(folder, KEY, Version("a", 99))
        if read is not None:
            assert len(read.columns) % 50 == 0
            assert read.columns.open_time[-1] == (len(read.columns) - 1) * 3_600_000


def test_processes_fill_and_read_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fill, args=(tmp_path, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert files(tmp_path) == ["40-a.columns"]
