"""A strategy as if its process had just begun, for whoever tries whether it remembers. Pure.

What a module remembers (a global, a class attribute, a closure, a cache) it begins to remember when
its text is executed. So the text of the strategy's module, and of the modules of this project that
it imports, is executed once more; the contract and the driver are shared, as both sides must mean
the same by a market and an error.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Mapping
from types import CodeType, ModuleType
from typing import Any

from signals.codehash import source_of
from signals.strategy import Strategy

MakeStrategy = Callable[[], Strategy]
FRESH_PACKAGE = "signals"
SHARED = frozenset(
    {"signals.strategy", "signals.driver", "signals.parameters", "signals.codehash", __name__}
)


def maker_of(strategy: Strategy) -> MakeStrategy:
    """Makes equals of a strategy, each with a state of its module that nobody has used.

    A strategy that stands for code elsewhere says itself how to begin anew, by a method `fresh`.
    """
    anew = getattr(strategy, "fresh", None)
    if anew is not None:
        return lambda: anew()
    kind, parameters = type(strategy), dict(strategy.get_parameters())
    code: dict[str, CodeType] = {}

    def make() -> Strategy:
        module = _FreshModules(code).load(kind.__module__)
        made: Strategy = getattr(module, kind.__qualname__)(**parameters)
        return made

    return make


class _FreshModules:
    """The modules of one state, each executed at most once. `code` keeps what was compiled."""

    def __init__(self, code: dict[str, CodeType]) -> None:
        self._code = code
        self._modules: dict[str, ModuleType] = {}

    def load(self, name: str) -> ModuleType:
        """The module of that name in this state."""
        if name in self._modules:
            return self._modules[name]
        if name not in self._code:
            path = sys.modules[name].__file__ or name
            self._code[name] = compile(source_of(name), path, "exec")
        # Under its own name: a dataclass looks for its module in sys.modules.
        module = ModuleType(name)
        module.__file__ = sys.modules[name].__file__
        module.__package__ = sys.modules[name].__package__
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": self._import}
        self._modules[name] = module
        exec(self._code[name], module.__dict__)
        return module

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: tuple[str, ...] | None = (),
        level: int = 0,
    ) -> ModuleType:
        found = __import__(name, globals, locals, fromlist or (), level)
        if not fromlist:
            return found
        if _is_renewed(found):
            return self.load(found.__name__)
        within = {each: getattr(found, each, None) for each in fromlist}
        renewed = {
            each: self.load(part.__name__)
            for each, part in within.items()
            if isinstance(part, ModuleType) and _is_renewed(part)
        }
        if not renewed:
            return found
        package = ModuleType(found.__name__)
        package.__dict__.update(vars(found) | renewed)
        return package


def _is_renewed(module: ModuleType) -> bool:
    name = module.__name__
    is_ours = name.partition(".")[0] == FRESH_PACKAGE and not hasattr(module, "__path__")
    return is_ours and name not in SHARED
