"""The world's clock: market time as a line through one moment of wall time."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class MarketClock:
    """market = start + (wall - anchor) * speed; all moments in milliseconds since 1970 UTC."""

    start_ms: int
    anchor_ms: float
    speed: float

    def now_ms(self) -> int:
        """The market time of this moment."""
        return int(self.start_ms + (time.time() * 1000 - self.anchor_ms) * self.speed)

    def wall_seconds_until(self, market_ms: int) -> float:
        """Wall seconds until a market moment; negative once it has passed."""
        wall_ms = self.anchor_ms + (market_ms - self.start_ms) / self.speed
        return wall_ms / 1000 - time.time()
