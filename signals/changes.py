"""What was changed of a strategy's settings, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def describe_change(changes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for each thing that has an `old` and a `new` value; of the parameters one for
    each that differs. One that was not set had the preset's value."""
    for what, values in changes.items():
        old, new = values["old"], values["new"]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from (
                f"{name} {_words(old.get(name, 'preset'))} -> {_words(new.get(name, 'preset'))}"
                for name in sorted({*old, *new})
                if old.get(name) != new.get(name)
            )
        else:
            yield f"{what} {_words(old)} -> {_words(new)}"


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value) or "all"
    return str(value)
