"""Pytest plugin: in a run under slipcover, what its probes must leave alone.

Slipcover puts a call before each line of the product's bytecode. Numba cannot compile such a call,
so it is given the functions as they stand in their files. And the calls stay in: to take out those
that have done their work, slipcover visits every function of every module from within whatever
line runs just then, a quarter of a second each time, while other threads run.
"""

import os
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

PROBED = "__slipcover__"  # among the constants of what slipcover has changed


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Leave the probes in, before anything of the product is imported."""
    if "SLIPCOVER_ENABLED" in os.environ:
        from slipcover import Slipcover

        Slipcover.deinstrument_seen = lambda self: None


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Have Numba compile without probes, before a test module compiles anything."""
    if "SLIPCOVER_ENABLED" in os.environ:
        import numba

        compiled = numba.njit

        def njit(*arguments: Any, **options: Any) -> Any:
            if arguments and isinstance(arguments[0], FunctionType):
                return compiled(without_probes(arguments[0]), *arguments[1:], **options)
            return lambda function: compiled(*arguments, **options)(without_probes(function))

        numba.njit = njit


def without_probes(function: FunctionType) -> FunctionType:
    """A function like this one, as it stands in its file; this one itself if it has no probes."""
    code = function.__code__
    if PROBED not in code.co_consts:
        return function
    plain = FunctionType(
        _codes(code.co_filename)[code.co_qualname, code.co_firstlineno],
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    plain.__kwdefaults__ = function.__kwdefaults__
    plain.__module__, plain.__qualname__ = function.__module__, function.__qualname__
    return plain


@cache
def _codes(path: str) -> dict[tuple[str, int], CodeType]:
    """Every code object of a file, by its name and first line."""
    found = [compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)]
    for code in found:
        found += [each for each in code.co_consts if isinstance(each, CodeType)]
    return {(code.co_qualname, code.co_firstlineno): code for code in found}
