"""Writes integers of ticks and units as the decimal text the providers send. Pure."""

from functools import lru_cache


def decimal_text(units: int, decimals: int) -> str:
    """An integer of 10**-decimals as text with exactly that many decimals."""
    if not decimals:
        return str(units)
    sign = "-" if units < 0 else ""
    whole, rest = divmod(abs(units), 10**decimals)
    return f"{sign}{whole}.{rest:0{decimals}d}"


def trimmed(units: int, decimals: int) -> float:
    """An integer of 10**-decimals as the nearest float: the one its decimal text parses to."""
    return float(units / 10**decimals)


# Order books repeat the same prices and sizes again and again.
level_text = lru_cache(1 << 16)(decimal_text)
