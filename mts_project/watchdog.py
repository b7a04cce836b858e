"""Which workers still answer: a worker whose consumer hangs is alive for the kernel only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from celery import Celery

from mts_project.supervisor import Supervisor

PING_EVERY_S = 5.0
PING_TIMEOUT_S = 3.0
SILENCE_BOUND_S = 30.0


class Watchdog(threading.Thread):
    """Pings every worker node and condemns the process of one that is silent for 30 s.

    Silence counts from the process's start or its last answer. While the broker itself cannot be
    reached nobody is blamed.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        app: Celery,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._supervisor = supervisor
        self._app = app
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._over = threading.Event()

    def run(self) -> None:
        """Look every five seconds until `close`."""
        while not self._over.wait(PING_EVERY_S):
            self.look()

    def close(self) -> None:
        """Look no more."""
        self._over.set()

    def look(self) -> None:
        """Ping all nodes once and condemn those that were silent for too long."""
        workers = [state for state in self._supervisor.states() if state.node]
        running = {state.node: state for state in workers if state.pid is not None}
        if not running:
            return
        answered = self._answers(list(running))
        now = self._clock()
        for node, state in running.items():
            if node in answered:
                self._heard[node] = now
            silence = min(now - self._heard.get(node, -float("inf")), state.uptime_s)
            if silence >= SILENCE_BOUND_S and not self._over.is_set():
                self._heard.pop(node, None)
                self._supervisor.condemn(state.name, f"no answer to a ping for {silence:.0f} s")

    def _answers(self, nodes: list[str]) -> set[str]:
        try:
            replies = self._app.control.ping(
                destination=nodes, timeout=PING_TIMEOUT_S, limit=len(nodes)
            )
        except Exception:
            # Whatever the broker's client raises, it says nothing about the workers.
            return set(nodes)
        return {node for reply in replies for node in reply}
