"""What the process of a strategy file may use. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HostLimits:
    """Seconds are of wall time, counted also where the strategy is deep in C code.

    `call_s` is for one analysis (the driver asks for one per month of history), `load_s` for
    executing the file.
    """

    call_s: float = 10.0
    load_s: float = 10.0
    memory_bytes: int = 2 << 30  # address space
    open_files: int = 64
    file_bytes: int = 16 << 20  # of any file that it writes


# A certificate asks for thousands of analyses: a strategy that is slow at each would never end.
TRIAL_S = 300.0


@dataclass
class Allowance:
    """Seconds that may still be spent, shared by several hosts."""

    left: float
