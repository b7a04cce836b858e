"""Faults on demand: which calls and stream messages of which provider go wrong, and how.

The shape of a request is in the package's description.

    BadFault     a request for faults that names no provider, kind or value known here
"""

import math
import random
from dataclasses import dataclass

PROVIDERS = ("coingecko", "fred", "binance", "binance_spot", "bybit")
CALL_FAULTS = ("rate_limit", "server_error", "timeout", "malformed")
STREAM_FAULTS = ("ws_drop", "ws_duplicate", "ws_reorder")
SWITCHES = ("outage", "ws_disconnect")
TEXTS = ("endpoint", "stream")


class BadFault(Exception):
    """A request for faults that cannot be understood: the message says what."""


@dataclass
class Fault:
    """One fault: `left` hits (None without end), each with `probability`, on matching names."""

    left: int | None = None
    probability: float = 1.0
    matching: str = ""
    retry_after: int = 5
    status: int = 503
    seconds: float = 60.0


class FaultBoard:
    """The faults switched on, by provider and kind; the seed decides those with a probability."""

    def __init__(self, seed: int) -> None:
        self._active: dict[tuple[str, str], Fault] = {}
        self._random = random.Random(seed)

    def change(self, wanted: object) -> None:
        """Switch faults on and off; raises BadFault and changes nothing if any is unknown."""
        if not isinstance(wanted, dict):
            raise BadFault("expected an object of providers")
        if wanted == {"clear": True}:
            self._active.clear()
            return
        changed = dict(self._active)
        for provider, kinds in wanted.items():
            if provider not in PROVIDERS or not isinstance(kinds, dict):
                raise BadFault(f"{provider}: expected one of {', '.join(PROVIDERS)} with an object")
            for kind, setting in kinds.items():
                if kind == "clear" and setting is True:
                    changed = {key: fault for key, fault in changed.items() if key[0] != provider}
                    continue
                fault = _parse(provider, kind, setting)
                changed.pop((provider, kind), None)
                if fault:
                    changed[provider, kind] = fault
        self._active = changed

    def hit(self, provider: str, kind: str, name: str) -> Fault | None:
        """The fault that this call or message meets, used up by one."""
        fault = self._active.get((provider, kind))
        if fault is None or fault.matching not in name:
            return None
        if fault.probability < 1 and self._random.random() >= fault.probability:
            return None
        if fault.left is not None:
            fault.left -= 1
            if fault.left <= 0:
                del self._active[provider, kind]
        return fault

    def is_on(self, provider: str, kind: str) -> bool:
        """Whether a fault is switched on."""
        return (provider, kind) in self._active

    def report(self) -> dict[str, dict[str, object]]:
        """The active faults by provider and kind."""
        found: dict[str, dict[str, object]] = {}
        for (provider, kind), fault in sorted(self._active.items()):
            found.setdefault(provider, {})[kind] = {
                "next": fault.left,
                "probability": fault.probability,
                "matching": fault.matching,
            }
        return found


def _parse(provider: str, kind: str, setting: object) -> Fault | None:
    where = f"{provider}.{kind}"
    if kind not in (*CALL_FAULTS, *STREAM_FAULTS, *SWITCHES):
        raise BadFault(f"{where}: unknown fault")
    if setting is None or setting is False:
        return None
    once = kind == "ws_disconnect"
    if setting is True:
        return Fault(left=1 if once else None)
    if not isinstance(setting, dict) or kind in SWITCHES:
        raise BadFault(
            f"{where}: expected true, false{'' if kind in SWITCHES else ' or an object'}"
        )
    fault = Fault()
    for name, value in setting.items():
        if name in TEXTS and isinstance(value, str):
            fault.matching = value
        elif name == "on" and isinstance(value, bool):
            if not value:
                return None
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise BadFault(f"{where}.{name}: not understood")
        else:
            _set_number(fault, f"{where}.{name}", name, value)
    return fault


def _set_number(fault: Fault, where: str, name: str, value: float) -> None:
    if name == "next" and value >= 1:
        fault.left = int(value)
    elif name == "probability" and 0 <= value <= 1:
        fault.probability = float(value)
    elif name == "retry_after" and 0 <= value < math.inf:
        fault.retry_after = math.ceil(value)
    elif name == "status" and 500 <= value <= 599:
        fault.status = int(value)
    elif name == "seconds" and 0 <= value < math.inf:
        fault.seconds = float(value)
    else:
        raise BadFault(f"{where}: not understood")
