"""How far an exchange's quotes stand above the path of a coin. Pure.

A slow wave of a few hundredths of a percent, with gaps of 12 to 40 basis points now and then that
last up to an hour and a half.
"""

from sandbox.bars import HOUR_MS
from sandbox.noise import uniform
from sandbox.path import MINUTE_MS

KNOT_MS = 5 * MINUTE_MS
WAVE_BPS = 3.0
SLOT_MS = 6 * HOUR_MS
GAP_SHARE = 0.35


class Basis:
    """The basis of one coin at one exchange, a function of its key and the time."""

    def __init__(self, key: int) -> None:
        self._key = key
        self._knot = -1
        self._ends = (0.0, 0.0)
        self._slot = -1
        self._draws: list[float] = []

    def bps(self, now_ms: int) -> float:
        """Basis points above the path's price at a moment."""
        knot, past_ms = divmod(now_ms, KNOT_MS)
        if knot != self._knot:
            self._knot = knot
            self._ends = (uniform(self._key, knot) - 0.5, uniform(self._key, knot + 1) - 0.5)
        start, end = self._ends
        return WAVE_BPS * (start + (end - start) * past_ms / KNOT_MS) + self._gap(now_ms)

    def _gap(self, now_ms: int) -> float:
        slot, into_ms = divmod(now_ms, SLOT_MS)
        if slot != self._slot:
            self._slot = slot
            self._draws = [uniform(self._key, -1 - slot * 8 - number) for number in range(5)]
        draws = self._draws
        if draws[0] >= GAP_SHARE:
            return 0.0
        length_ms = (20 + 70 * draws[1]) * MINUTE_MS
        place = (into_ms - draws[2] * (SLOT_MS - length_ms)) / length_ms
        if not 0 <= place <= 1:
            return 0.0
        size = 12 + 28 * draws[3]
        return (size if draws[4] < 0.5 else -size) * min(1.0, (1 - place) * 1.6)
