"""The scalar functions of aggregation as one compiled loop, for long histories. Pure.

Numba is imported at the first use, and only there: it costs a second and 100 MB, which a process
that computes live rows never needs. The compiled loop calls the very functions of
`signals.aggregation`, compiled, so that each rule is written once; the tests demand the same bits.

The machine code is kept beside the module, or in the user's cache folder, where one of them can be
written. All that is compiled stands in one module, so Numba, which looks at the time stamp of that
file only, never runs the code of yesterday.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import cache
from typing import Any

from signals import aggregation


@cache
def compiled_decisions() -> Callable[..., None]:
    """`aggregation.decide_column`, compiled."""
    functions = compiled_functions()
    return functions["decide_column"]


def compiled_functions() -> dict[str, Callable[..., Any]]:
    """Every function of `aggregation` by name, compiled, calling its compiled fellows."""
    import numba

    found: dict[str, Callable[..., Any]] = {}
    for name, function in vars(aggregation).items():
        if isinstance(function, types.FunctionType) and function.__module__ == aggregation.__name__:
            # The copy looks its fellows up among the compiled: they stand before it in the module.
            copy = types.FunctionType(function.__code__, {**vars(aggregation), **found}, name)
            copy.__module__, copy.__qualname__ = function.__module__, name
            found[name] = _compile(numba, copy)
    return found


def _compile(numba: Any, function: types.FunctionType) -> Callable[..., Any]:
    # Divisors are above 0 wherever the rules divide; not looking at them again halves the time.
    options = {"error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder to keep the code in: it is compiled in each process
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
