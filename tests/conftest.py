"""Fixtures that tests of several apps use."""

import contextlib
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from rest_framework.test import APIClient


@pytest.fixture
def api_client() -> APIClient:
    """A client of the HTTP API that nobody has logged in."""
    return APIClient()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with all its tables, to be copied. Migrating takes as long as most of what
    is tested on it, so that the first process of the run that needs one makes it for all."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    made = folder / "migrated.sqlite3"
    with (folder / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            data = folder / "migrated"
            data.mkdir(mode=0o700, exist_ok=True)
            subprocess.run(
                [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
                cwd=Path(__file__).resolve().parents[1],
                env={**os.environ, "DATABASE_URL": "", "MTS_DATA_DIR": str(data)},
                check=True,
            )
            with contextlib.closing(sqlite3.connect(data / "mts.sqlite3")) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (data / "mts.sqlite3").rename(made)
    return made


@pytest.fixture
def sqlite_folder(migrated_sqlite: Path, tmp_path: Path) -> Path:
    """A data folder (MTS_DATA_DIR) whose SQLite database has its tables, and no rows."""
    shutil.copy(migrated_sqlite, tmp_path / "mts.sqlite3")
    return tmp_path
