"""What a strategy's parameters may be: ranges and units declared beside each default. Pure.

A strategy is a frozen dataclass whose fields are its parameters, each declared with `parameter`:

    vix_threshold: float = parameter(low=10.0, high=80.0, unit="index points", text="...")
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class ParameterError(ValueError):
    """Parameters do not fit their declaration; nothing was changed.

    `fields` maps each wrong name to what is wrong with it, for a form or an HTTP answer.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {text}" for name, text in fields.items()))
        self.fields = dict(fields)


@dataclass(frozen=True, kw_only=True)
class ParameterRule:
    """One declared parameter: its default (None where the class gives none), inclusive range, unit
    and meaning."""

    name: str
    default: float | int | None
    is_whole: bool
    low: float
    high: float
    unit: str
    text: str


def parameter(
    *, low: float, high: float, unit: str, text: str, default: float | int | None = None
) -> Any:
    """A dataclass field that is a parameter in [low, high]; one annotated `int` takes whole
    numbers. Without a default its value comes from the strategy's preset."""
    metadata = {"low": low, "high": high, "unit": unit, "text": text}
    if default is None:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def parameter_rules(strategy_type: type[Any]) -> list[ParameterRule]:
    """The declared parameters of a strategy class, in the order of their declaration."""
    return [
        ParameterRule(
            name=field.name,
            default=None if field.default is dataclasses.MISSING else field.default,
            is_whole=field.type in (int, "int"),
            **field.metadata,
        )
        for field in dataclasses.fields(strategy_type)
    ]


def build_with(strategy_type: type[T], values: Mapping[str, Any]) -> T:
    """The strategy with `values` over its defaults. Raises ParameterError naming every fault."""
    return strategy_type(**checked_values(parameter_rules(strategy_type), values))


def checked_values(
    declared: Sequence[ParameterRule], values: Mapping[str, Any]
) -> dict[str, float | int]:
    """All parameters by name: `values` over the defaults. Raises ParameterError naming every
    fault, also of a default."""
    rules = {rule.name: rule for rule in declared}
    accepted: dict[str, float | int] = {}
    faults = {name: f"unknown; known: {', '.join(rules)}" for name in values if name not in rules}
    for name, rule in rules.items():
        value = values.get(name, rule.default)
        if value is None and name not in values:
            faults[name] = "not given, and it has no default"
            continue
        try:
            accepted[name] = _checked(rule, value)
        except ValueError as error:
            faults[name] = str(error)
    if faults:
        raise ParameterError(faults)
    return accepted


def _checked(rule: ParameterRule, value: Any) -> float | int:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{value!r} is not a finite number")
    if not rule.low <= value <= rule.high:
        words = f"{value!r}"[:24]  # a whole number may have any number of digits
        raise ValueError(f"{words} is outside {rule.low:g} to {rule.high:g} {rule.unit}")
    if rule.is_whole and value != int(value):
        raise ValueError(f"{value!r} is not a whole number of {rule.unit}")
    return int(value) if rule.is_whole else float(value)
