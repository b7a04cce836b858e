"""Writes integers of ticks and units as the decimal text the providers send. Pure."""

MOST_TEXTS = 20_000


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


class Texts(dict[int, str]):
    """Decimal texts by units, made when first asked for: books repeat the same prices and sizes."""

    def __init__(self, decimals: int) -> None:
        super().__init__()
        self._decimals = decimals

    def __missing__(self, units: int) -> str:
        if len(self) >= MOST_TEXTS:
            self.clear()
        text = self[units] = decimal_text(units, self._decimals)
        return text
