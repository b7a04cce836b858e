"""What was asked of each provider, and the call limits that providers enforce.

Limits are counted in market time, as the providers' own minutes are; at speed 1 that is wall time.
"""

import math
from collections import Counter
from dataclasses import dataclass


@dataclass
class CallWindow:
    """A fixed window of market time with a limit of calls or weight."""

    limit: int
    length_ms: int
    used: int = 0
    number: int = -1

    def spend(self, now_ms: int, weight: int) -> bool:
        """Count a call; False when the window is exhausted (the call is then not served)."""
        number = now_ms // self.length_ms
        if number != self.number:
            self.number, self.used = number, 0
        self.used += weight
        return self.used <= self.limit

    def retry_after(self, now_ms: int, speed: float) -> int:
        """Whole wall seconds, at least one, until the next window begins."""
        left_ms = self.length_ms - now_ms % self.length_ms
        return max(1, math.ceil(left_ms / 1000 / speed))


class RequestLog:
    """Counts of calls per provider and endpoint, and of calls that broke a limit."""

    def __init__(self) -> None:
        self._calls: dict[str, Counter[str]] = {}
        self._statuses: dict[str, Counter[str]] = {}
        self._violations: Counter[str] = Counter()

    def count(self, provider: str, endpoint: str, status: int) -> None:
        """Count one answered call."""
        self._calls.setdefault(provider, Counter())[endpoint] += 1
        self._statuses.setdefault(provider, Counter())[str(status)] += 1

    def count_violation(self, provider: str) -> None:
        """Count one call refused because it broke the provider's limit."""
        self._violations[provider] += 1

    def report(self) -> dict[str, object]:
        """Per provider: calls by endpoint, answers by status, total, limit_violations."""
        return {
            provider: {
                "total": calls.total(),
                "endpoints": dict(sorted(calls.items())),
                "statuses": dict(sorted(self._statuses[provider].items())),
                "limit_violations": self._violations[provider],
            }
            for provider, calls in sorted(self._calls.items())
        }
