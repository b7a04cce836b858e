"""The values that our strategies start with: one JSON file each in `signals/defaults/`. Pure.

    {"assets": ["bitcoin"], "weight": 1.0, "parameters": {"rsi_period": 14}}

`assets` are the coin ids that the strategy speaks of, all that there are when the list is empty;
`weight` is its voice in the consensus. The admin's rows begin with these and may change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What a strategy starts with."""

    assets: tuple[str, ...]
    weight: float
    parameters: Mapping[str, float | int]


def read_preset(name: str) -> Preset:
    """The preset of one of our strategies. Raises FileNotFoundError when it has none."""
    content = json.loads(files("signals").joinpath("defaults", f"{name}.json").read_text())
    return Preset(
        assets=tuple(content["assets"]),
        weight=float(content["weight"]),
        parameters=content["parameters"],
    )
