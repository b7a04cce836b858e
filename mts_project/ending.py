"""When a demo that stops by itself is over: after its time, or a little later on a slow machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

GRACE_S = 60.0
LOOK_EVERY_S = 0.5


class Ending:
    """Over after `seconds`; but while a stage has no row, up to `grace_s` later. Never after
    `latest`, where the world itself ends.

    How many seconds pass before the first fill is the machine's, not the market's: whoever asks
    for a time asks for a demo that shows every stage within it, and on a slow machine rather
    waits for the last of them than is told of a failure that there is none. `empty_stages` names
    the stages without a row; it is asked only when the time is over, and not at every look.
    """

    def __init__(
        self,
        *,
        starts_at: float,
        seconds: float,
        grace_s: float = GRACE_S,
        latest: float = math.inf,
        empty_stages: Callable[[], Sequence[str]],
        say: Callable[[str], None],
    ) -> None:
        due = min(starts_at + seconds, latest)
        self._last = min(due + grace_s, latest)
        self._empty_stages = empty_stages
        self._say = say
        self._look_at = due
        self._is_late = False

    def is_over(self, now: float) -> bool:
        """Whether the demo ends at `now`; all moments are in seconds of one clock."""
        if now < self._look_at:
            return False
        empty = self._empty_stages()
        if not empty or now >= self._last:
            return True
        if not self._is_late:
            self._is_late = True
            left = self._last - now
            self._say(f"no rows yet: {', '.join(empty)}; going on for up to {left:.0f} s")
        self._look_at = min(now + LOOK_EVERY_S, self._last)
        return False
