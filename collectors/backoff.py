"""How long to wait before another attempt. Pure, but for the jitter."""

from __future__ import annotations

import random


def backoff(failures: int, *, first: float, longest: float = 30.0) -> float:
    """Seconds before the next attempt after `failures` earlier ones: doubling, capped, with
    jitter so that many clients do not return at once."""
    return float(min(first * 2 ** min(failures, 10), longest) * random.uniform(0.5, 1))
