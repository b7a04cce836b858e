"""Marked modules behave as before, and tell which lines they came to."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.plugins.lines import MarkingLoader, counted_lines, measured_files, seen, unmarked

SOURCE = b'''"""A module."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import nowhere


@dataclass
class Pair:
    """Two numbers."""

    left: int
    right: int = 2

    def larger(self) -> int:
        """The larger."""
        if self.left > self.right:
            return self.left
        elif self.left == self.right:
            return 0
        return self.right


def kind(value: object) -> str:
    match value:
        case int():
            return "number"
        case _:
            ...
    try:
        return text(value)
    except TypeError:
        return "other"
    finally:
        pass


def text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
'''
COUNTED = {4, 5, 7, 12, 15, 16, 18, 20, 21, 22, 23, 24, 27, 28, 30, 33, 34, 36, 38, 41, 42, 43, 44}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = tmp_path / "pair.py"
    path.write_bytes(SOURCE)
    loader = MarkingLoader("pair", str(path))
    spec = importlib.util.spec_from_file_location("pair", path, loader=loader)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pair", made)  # where dataclasses look
    loader.exec_module(made)
    return made


def lines_of(module: ModuleType) -> set[int]:
    """What the module says that it came to."""
    return {line for line, mark in enumerate(seen[str(module.__file__)]) if mark}


def test_the_statements_count_that_do_something() -> None:
    assert counted_lines(SOURCE) == COUNTED


def test_lines_are_seen_once_they_are_come_to(module: ModuleType) -> None:
    assert lines_of(module) == {4, 5, 7, 12, 15, 16, 18, 27, 41}
    assert module.Pair(1).larger() == 2
    assert lines_of(module) & {20, 21, 22, 23, 24} == {20, 22, 24}
    assert module.kind(3) == "number"
    assert lines_of(module) & set(range(28, 45)) == {28, 30, 41}
    assert module.kind("word") == "word"
    assert module.kind(None) == "other"
    assert COUNTED - lines_of(module) == {21, 23}


def test_a_marked_module_reads_like_another(module: ModuleType) -> None:
    pair: Any = module.Pair
    assert (module.__doc__, pair.__doc__) == ("A module.", "Two numbers.")
    assert pair.larger.__doc__ == "The larger."
    assert pair.larger.__code__.co_firstlineno == 18
    assert pair.__annotations__ == {"left": "int", "right": "int"}


def test_a_function_can_be_had_without_marks(module: ModuleType) -> None:
    plain = compile(SOURCE, str(module.__file__), "exec")
    kinds = [each for each in plain.co_consts if getattr(each, "co_name", "") == "text"]
    before = module.text.__code__.co_code
    assert unmarked(module.text).__code__.co_code == kinds[0].co_code != before
    lines = lines_of(module)
    assert module.text("word") == "word"
    assert lines_of(module) == lines


def test_the_whole_product_is_measured() -> None:
    names = {path.parts[-2] + "/" + path.name for path in measured_files()}
    assert {"trading/simulator.py", "risk/limits.py", "mts_project/settings.py"} <= names
    assert not [path for path in measured_files() if "migrations" in path.parts]
