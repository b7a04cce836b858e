"""What a certificate is valid for: the code that computes a strategy, and its parameters. Pure.

The code is the strategy's own module, the contract and the driver, and every module of this project
that any of them imports, found by reading their imports; of other packages the version counts. It
is the code that was loaded: a source is read once by a process, so a file that changes under a
running process changes nothing that it says.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from importlib.util import find_spec, resolve_name

from signals.strategy import Strategy

OWN_PACKAGES = frozenset({"signals", "collectors"})
ALWAYS = ("signals.strategy", "signals.driver", "signals.indicators", "signals.parameters")
LIBRARIES = ("numpy", "talib")  # TA-Lib is imported in a way that no reader of imports sees
DISTRIBUTIONS = {"talib": "TA-Lib", "sklearn": "scikit-learn"}  # where the names differ


def code_hash(strategy: Strategy) -> str:
    """SHA-256 of the code that a strategy is computed with, and of its parameters.

    A strategy that stands for code which this process has not loaded names it by an attribute
    `code_identity`.
    """
    values = json.dumps(dict(strategy.get_parameters()), sort_keys=True)
    digest = hashlib.sha256(module_hash(type(strategy).__module__).encode())
    digest.update(str(getattr(strategy, "code_identity", "")).encode())
    digest.update(f"{type(strategy).__qualname__}:{strategy.name}:{values}".encode())
    return digest.hexdigest()


@cache
def module_hash(name: str) -> str:
    """SHA-256 of a loaded module and all that it is computed with. Raises ImportError or OSError
    when the source of a module is not there."""
    return source_hash(name, source_of(name))


def source_hash(name: str, source: str) -> str:
    """SHA-256 of a module's text and all that it is computed with, loaded or not."""
    sources = {name: source}
    libraries = set(LIBRARIES)
    waiting = [*ALWAYS, *imported_names(source, name)]
    while waiting:
        found = waiting.pop()
        root = found.partition(".")[0]
        if root not in OWN_PACKAGES:
            libraries |= {root} - sys.stdlib_module_names
        elif found not in sources and (text := _source_or_none(found)) is not None:
            sources[found] = text
            waiting += imported_names(text, found)
    digest = hashlib.sha256()
    for each in sorted(sources):
        digest.update(f"{'' if each == name else each}\n{sources[each]}\n".encode())
    for library in sorted(libraries):
        digest.update(f"{library} {_version(library)}\n".encode())
    return digest.hexdigest()


def imported_names(source: str, module: str) -> Iterator[str]:
    """The full names that a module's text imports: modules, and names within modules as if they
    were modules, as the text does not tell them apart."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            place = node.module or ""
            if node.level:
                place = resolve_name("." * node.level + place, module.rpartition(".")[0])
            yield place
            yield from (f"{place}.{alias.name}" for alias in node.names)


@cache
def source_of(name: str) -> str:
    """The text of a loaded module, as this process first read it."""
    return inspect.getsource(sys.modules[name])


@cache
def _source_or_none(name: str) -> str | None:
    """The text of a module; None for a name within a module, and for a package without code."""
    if name in sys.modules:
        return source_of(name) if _has_text(name) else None
    parent = name.rpartition(".")[0]
    if not hasattr(sys.modules.get(parent, None), "__path__"):
        return None
    spec = find_spec(name)
    if spec is None or spec.loader is None or not hasattr(spec.loader, "get_source"):
        return None
    text: str | None = spec.loader.get_source(name)
    return text


def _has_text(name: str) -> bool:
    try:
        return bool(source_of(name))
    except (OSError, TypeError):  # an empty __init__, a namespace, a compiled module
        return False


@cache
def _version(library: str) -> str:
    try:
        return metadata.version(DISTRIBUTIONS.get(library, library))
    except metadata.PackageNotFoundError:
        return ""
