"""Some instruments of a market, and of what is said of it. Pure.

All arrays that come of it are copies, as they would be if no other instrument had been there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signals.strategy import Analysis, Market


def market_columns(market: Market, columns: Sequence[int]) -> Market:
    """The market of the instruments in these columns, in this order."""
    names = tuple(market.instruments[column] for column in columns)
    return replace(market, instruments=names, **_taken(market, columns))


def analysis_columns(analysis: Analysis, columns: Sequence[int]) -> Analysis:
    """What an analysis says of the instruments in these columns, in this order."""
    diagnostics = {name: take(values, columns) for name, values in analysis.diagnostics.items()}
    return replace(analysis, diagnostics=diagnostics, **_taken(analysis, columns))


def take(values: NDArray[Any], columns: Sequence[int]) -> NDArray[Any]:
    """The columns of (B, K) values, row by row in memory."""
    return np.ascontiguousarray(values[:, list(columns)])


def _taken(value: Market | Analysis, columns: Sequence[int]) -> Mapping[str, Any]:
    """These columns of all fields that are (B, K)."""
    found = ((each.name, getattr(value, each.name)) for each in fields(value))
    return {
        name: take(array, columns)
        for name, array in found
        if isinstance(array, np.ndarray) and array.ndim > 1
    }
