"""Strategy files that tests write: a sound one, and whatever it may do wrong."""

import hashlib
import textwrap
from pathlib import Path

from signals.hosting.files import StrategyFile

SOUND = '''
"""Long above a level."""

import ctypes, os, signal, subprocess, sys, threading, time
from dataclasses import dataclass

import numpy as np

from signals.parameters import parameter
from signals.strategy import Analysis, Strategy

{before}

@dataclass(frozen=True, kw_only=True)
class Drop(Strategy):
    name = "{name}"
    timeframe = "{timeframe}"
    macro_series = {series}
    compares = {compares}

    level: float = parameter(default={level}, low=0.0, high=1e9, unit="price", text="bought above")

    @property
    def lookback(self):
        return {lookback}

    def analyze(self, market):
{analyze}
        above = market.close > self.level
        return Analysis(
            direction=above.astype(np.int8) * {sign},
            confidence=np.where(above, 0.75, 0.0),
            stop_loss=market.close * 0.9,
            take_profit=market.close * 1.2,
            position_size=np.full_like(market.close, 0.02),
            diagnostics={{"above": market.close - self.level}},
        )
'''


def source_of(
    name: str = "drop",
    *,
    before: str = "",
    analyze: str = "",
    level: float = 0.0,
    sign: str = "1",
    lookback: str = "5",
    timeframe: str = "1h",
    series: str = "()",
    compares: str = "False",
) -> str:
    """A strategy file; `before` runs at import, `analyze` at the head of every analysis."""
    return SOUND.format(
        name=name,
        before=textwrap.dedent(before),
        analyze=textwrap.indent(textwrap.dedent(analyze), " " * 8),
        level=level,
        sign=sign,
        lookback=lookback,
        timeframe=timeframe,
        series=series,
        compares=compares,
    )


def file_of(name: str = "drop", **parts: str) -> StrategyFile:
    """The file as read."""
    source = source_of(name, **parts).encode()
    return StrategyFile(name, source, hashlib.sha256(source).hexdigest())


def drop_file(folder: Path, name: str = "drop", **parts: str) -> Path:
    """Write the file where strategies are looked for."""
    path = folder / f"{name}.py"
    path.write_text(source_of(name, **parts))
    path.chmod(0o600)
    return path
