"""The rules of the house that a machine can check: layers, names, sizes, format, types, locks."""

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

PROJECT = Path(__file__).resolve().parent.parent
SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text())
LINTER = SETTINGS["tool"]["importlinter"]
PACKAGES: list[str] = LINTER["root_packages"]
LINES_CEILING = 400
LINES_MEDIAN = 120
FILE_CEILING = 1 << 20
BANNED_MODULES = {
    "utils",
    "helpers",
    "misc",
    "common",
    "core",
    "lib",
    "base",
    "manager",
    "handler",
    "processor",
    "engine",
    "data",
    "types",
}
BANNED_SUFFIXES = ("Manager", "Helper", "Impl")
NOT_OURS = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
NOT_OURS |= {".import_linter_cache", "__pycache__", "data", "htmlcov"}


def project_files() -> list[Path]:
    """Every file of the project, without environment, caches and the installation's own data."""
    found: list[Path] = []
    folders = [PROJECT]
    while folders:
        for path in folders.pop().iterdir():
            if path.is_dir() and path.name not in NOT_OURS:
                folders.append(path)
            elif path.is_file():
                found.append(path)
    return sorted(found)


FILES = project_files()
MODULES = [
    path
    for path in FILES
    if path.suffix == ".py"
    and path.relative_to(PROJECT).parts[0] in PACKAGES
    and "migrations" not in path.parts
]


def line_count(path: Path) -> int:
    return len(path.read_text().splitlines())


def named(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(PROJECT)) for path in paths]


def assert_succeeds(*command: str | Path) -> None:
    """Run a tool in the project's folder; its output is the message of a failure."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_contracts_hold() -> None:
    assert_succeeds(Path(sys.executable).with_name("lint-imports"), "--config", "pyproject.toml")


def test_ruff_finds_nothing() -> None:
    assert_succeeds(sys.executable, "-m", "ruff", "check", ".")


def test_ruff_would_format_nothing() -> None:
    assert_succeeds(sys.executable, "-m", "ruff", "format", "--check", ".")


@pytest.mark.long(40)
@pytest.mark.timeout(900)  # without its cache, on a machine that never ran it
def test_types_hold() -> None:
    assert_succeeds(sys.executable, "-m", "mypy")


@pytest.mark.django_db
def test_migrations_match_the_models() -> None:
    call_command("makemigrations", "--check", "--dry-run", stdout=StringIO())


SERVED = """
import django, sys
django.setup()
import mts_project.asgi, mts_project.beat, mts_project.celery, mts_project.urls, signals.charts
mts_project.celery.app.loader.import_default_modules()
heavy = {"pandas", "pyarrow", "numba", "scipy"}
sys.exit(f"imported: {heavy & set(sys.modules)}" if heavy & set(sys.modules) else 0)
"""


WORKED = """
import django, sys
django.setup()
import mts_project.celery
mts_project.celery.app.loader.import_default_modules()
shown = {"rest_framework.views", "trading.admin", "mts_project.urls", "mts_project.site"}
sys.exit(f"imported: {shown & set(sys.modules)}" if shown & set(sys.modules) else 0)
"""


def test_what_only_some_work_needs_is_not_imported_by_every_process() -> None:
    assert_succeeds(sys.executable, "-c", SERVED)
    assert_succeeds(sys.executable, "-c", WORKED)


CHECKED = """
import django
django.setup()
from django.contrib import admin
from django.core.checks import Tags, run_checks
from trading.models import Account
assert run_checks(tags=[Tags.admin]) == [] and admin.site.is_registered(Account)
assert run_checks() == []
"""


def test_the_checks_of_django_find_nothing_and_look_at_every_page() -> None:
    assert_succeeds(sys.executable, "-c", CHECKED)


def test_no_module_has_a_banned_name() -> None:
    banned = [path for path in MODULES if path.stem in BANNED_MODULES]
    banned += [path for path in MODULES if path.name == "signals.py"]
    banned += [path for path in MODULES if BANNED_MODULES & set(path.relative_to(PROJECT).parts)]
    assert named(banned) == []


def test_no_class_has_a_banned_suffix() -> None:
    found = [
        f"{path.relative_to(PROJECT)}: {node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.name.endswith(BANNED_SUFFIXES)
    ]
    assert found == []


def test_modules_stay_small() -> None:
    counts = {path: line_count(path) for path in MODULES}
    assert named([path for path, count in counts.items() if count > LINES_CEILING]) == []
    assert statistics.median(count for count in counts.values() if count > 1) < LINES_MEDIAN


def test_every_module_says_what_it_knows() -> None:
    silent = [
        path
        for path in MODULES
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert named(silent) == []


def test_pure_modules_say_so() -> None:
    contract = next(c for c in LINTER["contracts"] if c["name"] == "pure modules do no I/O")
    silent = []
    for name in contract["source_modules"]:
        place = PROJECT / name.replace(".", "/")
        paths = [path for path in place.glob("*.py") if path.name != "__init__.py"]
        for path in paths if place.is_dir() else [place.with_suffix(".py")]:
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            if not re.search(r"\bpure\b", docstring, re.IGNORECASE):
                silent.append(path)
    assert named(silent) == []


def test_no_file_is_large() -> None:
    assert named([path for path in FILES if path.stat().st_size > FILE_CEILING]) == []


def test_tests_are_no_packages() -> None:
    # With one, `import signals` inside a test would find tests/signals.
    assert named([path for path in FILES if path.match("tests/**/__init__.py")]) == []


def pins(lock: str) -> set[str]:
    """The `name==version` entries of a lock file."""
    return set(re.findall(r"^([\w.-]+==[^\s;]+)", (PROJECT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    "lock", ["requirements.txt", "requirements-test.txt", "requirements-uv.txt"]
)
def test_locks_carry_hashes_and_name_no_place(lock: str) -> None:
    text = (PROJECT / lock).read_text()
    assert text.count("==") >= len(pins(lock)) > 0
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert not re.search(r"://|--index|--find-links|^/|\s/\w", text, re.MULTILINE)


def test_the_test_lock_holds_the_product_lock() -> None:
    # run.py counts an environment for the tests as one for the product.
    assert pins("requirements.txt") <= pins("requirements-test.txt")
