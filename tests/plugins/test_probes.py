"""A run under slipcover: what Numba compiles, what is measured, and how it ends."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from slipcover import Slipcover

from tests.plugins.probes import without_probes

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]
SUMS = """
def twice(number):
    return 2 * number


def total(numbers):
    found = 0
    for number in numbers:
        found += number
    return found
"""
# The loop comes by more often than slipcover waits until it takes probes out.
TESTS = """
import numba
from product import sums


def test_compiled():
    assert numba.njit(sums.total)((1, 2)) == 3
    assert numba.njit(error_model="numpy")(sums.twice)(2) == 4


def test_counted():
    before = sums.total.__code__
    assert sums.total(range(1000)) == 499500
    assert sums.total.__code__ is before


def test_that_fails():
    assert sums.twice(2) == 5
"""


def test_a_function_can_be_had_without_probes(tmp_path: Path) -> None:
    path = tmp_path / "sums.py"
    path.write_text(SUMS)
    plain = compile(SUMS, str(path), "exec")
    expected = {each.co_name: each for each in plain.co_consts if hasattr(each, "co_name")}
    measured = Slipcover()
    names: dict[str, object] = {}
    exec(measured.instrument(plain), names)
    twice, total = names["twice"], names["total"]
    assert callable(twice) and callable(total)
    assert twice.__code__ != expected["twice"]
    assert without_probes(twice).__code__ == expected["twice"]
    assert without_probes(twice)(3) == 6
    assert not measured.newly_seen[str(path)] & {3, 7}
    assert (twice(3), total([1, 2])) == (6, 3)
    (of_file,) = measured.get_coverage()["files"].values()
    assert of_file["missing_lines"] == []


def test_a_measured_run_tells_what_failed_and_sums_up_all_processes(tmp_path: Path) -> None:
    (tmp_path / "product").mkdir()
    (tmp_path / "product" / "__init__.py").touch()
    (tmp_path / "product" / "sums.py").write_text(SUMS)
    (tmp_path / "test_sums.py").write_text(TESTS)
    warnings = json.dumps(SETTINGS["pytest"]["ini_options"]["filterwarnings"])
    (tmp_path / "pyproject.toml").write_text(
        f"[tool.pytest.ini_options]\nfilterwarnings = {warnings}\n"
        'addopts = ["-p", "tests.plugins.probes", "-p", "no:asyncio"]\npythonpath = ["."]\n'
        '[tool.slipcover]\nsource = ["product"]\n'
    )
    ours = ("PYTEST_", "SLIPCOVER_", "DJANGO_")
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-m", "slipcover", "-m", "pytest", "-n2", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**surroundings, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("product/sums")]
    assert row[1:4] == ["7", "0", "100"]


def test_the_whole_product_is_measured() -> None:
    assert SETTINGS["slipcover"]["source"] == SETTINGS["importlinter"]["root_packages"]
