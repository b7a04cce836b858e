"""Faults on demand: which calls and stream messages of which provider go wrong, and how.

The shape of a request is in the package's description.

    BadFault     a request for faults that names no provider, kind or value known here
"""

import math
import random
import time
from dataclasses import dataclass

BINANCE = ("binance", "binance_spot")
EXCHANGES = (*BINANCE, "bybit", "bybit_spot")
PROVIDERS = ("coingecko", "fred", *EXCHANGES)
CALL_FAULTS = ("rate_limit", "server_error", "timeout", "malformed", "geo_block")
SPOILING_FAULTS = (
    *("ws_wrong_symbol", "ws_crossed", "ws_absurd", "ws_late"),
    *("ws_truncate", "ws_garbage"),
)
STREAM_FAULTS = ("ws_silent", "ws_drop", "ws_duplicate", "ws_reorder", *SPOILING_FAULTS)
SWITCHES = ("outage", "ws_disconnect")
# These last for their seconds of wall time and end by themselves.
LASTING = {"ban": 60.0, "ws_restart": 5.0}
ONLY_AT = {
    "ban": BINANCE,
    "stale_snapshot": EXCHANGES,
    "delisted": EXCHANGES,
    "ws_restart": EXCHANGES,
    "ws_disconnect": EXCHANGES,
}
KINDS = (*CALL_FAULTS, *STREAM_FAULTS, *SWITCHES, *LASTING, "stale_snapshot", "delisted")
TEXTS = ("endpoint", "stream", "symbol")


class BadFault(Exception):
    """A request for faults that cannot be understood: the message says what."""


@dataclass
class Fault:
    """One fault: `left` hits (None without end), each with `probability`, on matching names.

    `until` is the moment of the monotonic clock at which it ends by itself; `is_known` once it
    has been met.
    """

    left: int | None = None
    probability: float = 1.0
    matching: str = ""
    retry_after: int = 5
    status: int = 503
    seconds: float = 60.0
    until: float = math.inf
    is_known: bool = False


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
        fault = self.current(provider, kind)
        if fault is None or fault.matching not in name:
            return None
        if fault.probability < 1 and self._random.random() >= fault.probability:
            return None
        if fault.left is not None:
            fault.left -= 1
            if fault.left <= 0:
                del self._active[provider, kind]
        return fault

    def is_calm(self, provider: str) -> bool:
        """Whether nothing at all is switched on at a provider."""
        return not self._active or all(active[0] != provider for active in self._active)

    def is_on(self, provider: str, kind: str) -> bool:
        """Whether a fault is switched on."""
        return self.current(provider, kind) is not None

    def current(self, provider: str, kind: str) -> Fault | None:
        """A fault that is switched on and has not ended by itself."""
        fault = self._active.get((provider, kind))
        if fault and fault.until <= time.monotonic():
            del self._active[provider, kind]
            return None
        return fault

    def delisted(self) -> set[tuple[str, str]]:
        """Exchange and symbol of every instrument that is delisted."""
        return {
            (provider, symbol.strip())
            for (provider, kind), fault in self._active.items()
            if kind == "delisted"
            for symbol in fault.matching.split(",")
        }

    def report(self) -> dict[str, dict[str, object]]:
        """The active faults by provider and kind."""
        found: dict[str, dict[str, object]] = {}
        for provider, kind in sorted(self._active):
            fault = self.current(provider, kind)
            if fault is None:
                continue
            found.setdefault(provider, {})[kind] = {
                "next": fault.left,
                "probability": fault.probability,
                "matching": fault.matching,
            }
        return found


def _parse(provider: str, kind: str, setting: object) -> Fault | None:
    where = f"{provider}.{kind}"
    if kind not in KINDS or provider not in ONLY_AT.get(kind, PROVIDERS):
        raise BadFault(f"{where}: unknown fault")
    if setting is None or setting is False:
        return None
    fault = Fault(left=1 if kind == "ws_disconnect" else None)
    fault.seconds = LASTING.get(kind, 60.0)
    if isinstance(setting, dict) and kind not in SWITCHES:
        for name, value in setting.items():
            if name == "on" and value is False:
                return None
            _set(fault, kind, f"{where}.{name}", value)
    elif setting is not True:
        raise BadFault(
            f"{where}: expected true, false{'' if kind in SWITCHES else ' or an object'}"
        )
    if kind == "delisted" and not fault.matching:
        raise BadFault(f"{where}: expected a symbol")
    if kind in LASTING:
        fault.until = time.monotonic() + fault.seconds
    return fault


def _set(fault: Fault, kind: str, where: str, value: object) -> None:
    name = where.rpartition(".")[2]
    if name in TEXTS and isinstance(value, str):
        fault.matching = value
    elif name == "on" and value is True:
        return
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise BadFault(f"{where}: not understood")
    elif name == "seconds" and kind == "ws_late" and math.isfinite(value):
        fault.seconds = float(value)
    else:
        _set_number(fault, where, name, value)


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
