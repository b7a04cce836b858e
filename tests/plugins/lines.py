"""Pytest plugin: with `--lines`, which lines of the product the run came to.

coverage.py has to watch every line of every library when Python has no `sys.monitoring` (before
3.12), and the suite takes twice as long. Here the product's modules are compiled with a mark
before each statement, an item of a list that is set, so that only our own code bears any cost, and
little. For more than lines (branches, HTML, who came by) there is `--cov`.

Numba compiles functions as they stand in the file, without marks. Processes that tests start are
not looked at.
"""

import ast
import os
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from itertools import chain
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
MARKS = "__seen__"
NOT_SHOWN = "migrations"
SENT = "lines"

# By file: an item for each line, 0 until it is come to.
seen: dict[str, list[int]] = {}


class MarkingLoader(SourceFileLoader):
    """Compiles a module with marks, never from its bytecode."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module with a clean list of its lines."""
        lines = self.get_data(self.path).count(b"\n") + 2
        vars(module)[MARKS] = seen[self.path] = [0] * lines
        super().exec_module(module)

    def get_code(self, fullname: str) -> CodeType:
        """The marked module."""
        return compile(marked(self.get_data(self.path)), self.path, "exec", dont_inherit=True)


class MarkingFinder:
    """Finds the modules of `packages`, for MarkingLoader."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = frozenset(packages)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The module's, or None for what is not ours."""
        if name.partition(".")[0] not in self._packages:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = MarkingLoader(spec.loader.name, spec.loader.path)
        return spec


def marked(source: bytes) -> ast.Module:
    """The module, with a mark before each statement that counts."""
    tree = ast.parse(source)
    for statements in _blocks(tree):
        statements[:] = chain.from_iterable(
            (_mark(each), each) if _counts(each) else (each,) for each in statements
        )
    return ast.fix_missing_locations(tree)


def counted_lines(source: bytes) -> set[int]:
    """The lines that begin a statement which counts."""
    return {each.lineno for block in _blocks(ast.parse(source)) for each in block if _counts(each)}


def _blocks(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    """Every list of statements, but for those that only a type checker comes to."""
    found = [tree]
    for node in found:
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.AST):
                if name == "body" and _is_for_types_only(node):
                    continue
                found += value
                if isinstance(value[0], ast.stmt):
                    yield value


def _is_for_types_only(node: ast.AST) -> bool:
    test = node.test if isinstance(node, ast.If) else None
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _counts(statement: ast.stmt) -> bool:
    """Not docstrings and `...`, and what has to stand first or does nothing."""
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.ImportFrom):
        return statement.module != "__future__"
    return not isinstance(statement, ast.Global | ast.Nonlocal)


def _mark(statement: ast.stmt) -> ast.stmt:
    mark = ast.parse(f"{MARKS}[{statement.lineno}] = 1").body[0]
    for node in ast.walk(mark):
        ast.copy_location(node, statement)
    return mark


def unmarked(function: FunctionType) -> FunctionType:
    """The function, as it stands in its file from now on."""
    code = function.__code__
    if code.co_filename in seen:
        function.__code__ = _codes(code.co_filename)[code.co_qualname, code.co_firstlineno]
    return function


@cache
def _codes(path: str) -> dict[tuple[str, int], CodeType]:
    """Every code object of a file, by its name and first line."""
    found = [compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)]
    for code in found:
        found += [each for each in code.co_consts if isinstance(each, CodeType)]
    return {(code.co_qualname, code.co_firstlineno): code for code in found}


def _compile_without_marks() -> None:
    import numba

    compiled = numba.njit

    def njit(*arguments: Any, **options: Any) -> Any:
        if arguments and isinstance(arguments[0], FunctionType):
            return compiled(unmarked(arguments[0]), *arguments[1:], **options)
        return lambda function: compiled(*arguments, **options)(unmarked(function))

    numba.njit = njit


def pytest_addoption(parser: pytest.Parser) -> None:
    """Make the option known."""
    parser.addoption("--lines", action="store_true", help="print which lines were come to")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Mark from now on, before anything of the product is imported."""
    options = early_config.known_args_namespace
    # The process that only hands out tests comes to nothing by itself.
    hands_out = bool(options.numprocesses) and "PYTEST_XDIST_WORKER" not in os.environ
    if options.lines and not hands_out:
        sys.meta_path.insert(0, MarkingFinder(measured_packages()))
        _compile_without_marks()


def measured_packages() -> list[str]:
    """Those that `--cov` measures, too."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    packages: list[str] = settings["tool"]["coverage"]["run"]["source"]
    return packages


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what this process came to to the one that hands out the tests."""
    if session.config.getoption("lines") and hasattr(session.config, "workeroutput"):
        session.config.workeroutput[SENT] = {
            path: [line for line, mark in enumerate(marks) if mark] for path, marks in seen.items()
        }


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what another process came to."""
    for path, lines in getattr(node, "workeroutput", {}).get(SENT, {}).items():
        marks = seen.setdefault(path, [])
        marks += [0] * (max(lines, default=0) + 1 - len(marks))
        for line in lines:
            marks[line] = 1


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the modules that were not come to in full, and the total."""
    if not config.getoption("lines"):
        return
    terminalreporter.section("lines")
    terminalreporter.write_line(f"{'module':64} {'lines':>8} {'missed':>8} {'seen':>6}")
    total = missed = 0
    for path in measured_files():
        lines = counted_lines(path.read_bytes())
        marks = seen.get(str(path), [])
        missing = sum(not (line < len(marks) and marks[line]) for line in lines)
        total, missed = total + len(lines), missed + missing
        if missing:
            _write_row(terminalreporter, str(path.relative_to(PROJECT)), len(lines), missing)
    _write_row(terminalreporter, "all", total, missed)


def measured_files() -> list[Path]:
    """Every module that counts."""
    files = chain.from_iterable((PROJECT / name).rglob("*.py") for name in measured_packages())
    return sorted(path for path in files if NOT_SHOWN not in path.parts)


def _write_row(terminalreporter: Any, name: str, lines: int, missing: int) -> None:
    share = (lines - missing) / lines if lines else 1.0
    terminalreporter.write_line(f"{name:64} {lines:8} {missing:8} {share:6.1%}")
