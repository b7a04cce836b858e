"""What every management command has in common when it cannot begin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings


@pytest.mark.parametrize(
    "arguments",
    [["export_candles"], ["collect", "hourly"], ["collect", "macro"]],
)
def test_a_database_without_tables_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str]
) -> None:
    surroundings = {
        name: text for name, text in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}
    }
    ended = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=settings.BASE_DIR,
        env=surroundings | {"MTS_DATA_DIR": str(tmp_path), "DATABASE_URL": ""},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "the database's tables are missing or old: run manage.py migrate and manage.py seed"
    ]
