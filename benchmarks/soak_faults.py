"""What goes wrong in a long run of the streams, and when: drawn beforehand from a seed."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

EXCHANGES = ("binance", "bybit")
REDIS = "redis"
KILLED = "killed"
# A supervisor that sees a process die again within a minute waits longer before it starts it.
REDIS_EVERY_S = (75.0, 130.0)
MESSAGE_EVERY_S = (0.5, 4.0)
LINE_EVERY_S = (8.0, 30.0)
# What comes more often is here more than once.
MESSAGE_FAULTS = (
    *("ws_drop", "ws_drop", "ws_duplicate", "ws_reorder", "ws_reorder"),
    *("ws_truncate", "ws_garbage", "ws_wrong_symbol", "ws_crossed", "ws_absurd"),
)
KLINES = {"binance": "kline", "bybit": "kline."}


@dataclass(frozen=True)
class Mishap:
    """At `at_s` of the run something goes wrong at an exchange, or with Redis, for `lasts_s`; 0
    where it ends by itself."""

    at_s: float
    place: str
    kind: str
    setting: Any = True
    lasts_s: float = 0.0


def plan(*, seed: int, seconds: float) -> list[Mishap]:
    """All that goes wrong in so many seconds, in order; the same for the same seed. Nothing lasts
    beyond the end."""
    draw = random.Random(seed)
    found: list[Mishap] = []
    for every, make in (
        (MESSAGE_EVERY_S, _message),
        (LINE_EVERY_S, _line),
        (REDIS_EVERY_S, _redis),
    ):
        at_s = draw.uniform(0, every[1])
        while at_s < seconds:
            mishap = make(draw, at_s)
            if at_s + mishap.lasts_s < seconds:
                found.append(mishap)
            at_s += mishap.lasts_s + draw.uniform(*every)
    return sorted(found, key=lambda mishap: mishap.at_s)


def _message(draw: random.Random, at_s: float) -> Mishap:
    """One or a few messages that are lost, come twice, late or spoilt."""
    place = draw.choice(EXCHANGES)
    if draw.random() < 0.1:
        # Only one kline in many is a closed one.
        setting = {"next": draw.randint(20, 60), "probability": 0.5, "stream": KLINES[place]}
        return Mishap(at_s, place, draw.choice(("ws_drop", "ws_duplicate")), setting)
    kind = draw.choice(MESSAGE_FAULTS)
    return Mishap(at_s, place, kind, {"next": draw.randint(1, 3)})


def _line(draw: random.Random, at_s: float) -> Mishap:
    """Connections that end or fall silent, an exchange that is away or starts anew."""
    place = draw.choice(EXCHANGES)
    kind = draw.choice(("ws_disconnect", "ws_disconnect", "ws_silent", "outage", "ws_restart"))
    if kind == "ws_disconnect":
        return Mishap(at_s, place, kind)
    if kind == "ws_restart":
        seconds = round(draw.uniform(1, 6), 1)
        return Mishap(at_s, place, kind, {"seconds": seconds})
    return Mishap(at_s, place, kind, True, round(draw.uniform(3, 15), 1))


def _redis(draw: random.Random, at_s: float) -> Mishap:
    return Mishap(at_s, REDIS, KILLED)


class Injector(threading.Thread):
    """Lets the mishaps happen; `done` counts them, `unknown` those that the sandbox does not know.

    `redis_pid` finds the server that runs now; None while there is none.
    """

    def __init__(
        self,
        mishaps: Sequence[Mishap],
        *,
        sandbox: str,
        redis_pid: Callable[[], int | None],
    ) -> None:
        super().__init__(name="mishaps", daemon=True)
        self.done: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self._sandbox = sandbox
        self._redis_pid = redis_pid
        self._over = threading.Event()
        ends = [
            Mishap(mishap.at_s + mishap.lasts_s, mishap.place, mishap.kind, False)
            for mishap in mishaps
            if mishap.lasts_s
        ]
        self._steps = sorted([*mishaps, *ends], key=lambda mishap: mishap.at_s)

    def run(self) -> None:
        """Until the last one, or until `end`."""
        began = time.monotonic()
        for mishap in self._steps:
            if self._over.wait(max(0.0, began + mishap.at_s - time.monotonic())):
                return
            if mishap.place == REDIS:
                self._kill_redis()
            else:
                self._switch(mishap)

    def end(self) -> None:
        """Nothing goes wrong from now on."""
        self._over.set()
        self.join()
        request = urllib.request.Request(f"{self._sandbox}/control/faults", method="DELETE")
        urllib.request.urlopen(request, timeout=30).close()

    def _kill_redis(self) -> None:
        pid = self._redis_pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self.done[f"{REDIS} {KILLED}"] += 1

    def _switch(self, mishap: Mishap) -> None:
        body = json.dumps({mishap.place: {mishap.kind: mishap.setting}}).encode()
        request = urllib.request.Request(
            f"{self._sandbox}/control/faults", data=body, method="POST"
        )
        name = f"{mishap.place} {mishap.kind}"
        try:
            urllib.request.urlopen(request, timeout=30).close()
        except urllib.error.HTTPError as error:
            error.close()
            self.unknown[name] += 1
        else:
            self.done[name] += mishap.setting is not False
