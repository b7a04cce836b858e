"""Whether books are served only while they are right: sampled from Redis throughout a run."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
import urllib.error
from collections import Counter
from typing import Any

import redis

from benchmarks.soak_checks import Law, answer_of

KEYS = "orderbook:*"
LOOK_EVERY_S = 0.25
# A book moves ten times a second: whoever waits longer for an update has missed it.
WAITS_S = 0.5
MOST_LEVELS = 50


class BookWatcher(threading.Thread):
    """Reads the served books, and compares them with the sandbox's at the same update.

    The sandbox is asked first, so that its update is the one to wait for. What is served of
    another update, because messages were lost or joined, cannot be compared and is `missed`.
    """

    def __init__(self, *, redis_url: str, sandbox: str, seed: int) -> None:
        super().__init__(name="book-watcher", daemon=True)
        self.sane = Law("served books are sorted, not crossed, and empty unless synchronised")
        self.true = Law("served books are the sandbox's at the same update")
        self.found: Counter[str] = Counter()
        self.rates: list[float] = []
        self._client = redis.Redis.from_url(redis_url, socket_timeout=2, decode_responses=True)
        self._sandbox = sandbox
        self._draw = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        """Until `end`."""
        while not self._over.wait(LOOK_EVERY_S):
            with contextlib.suppress(redis.RedisError, urllib.error.URLError, OSError):
                self._look()

    def end(self) -> dict[str, bool]:
        """Look no more; which books are served as synchronised now."""
        self._over.set()
        self.join()
        states = {}
        for key in self._client.scan_iter(KEYS):
            value = self._read(key)
            states[key] = bool(value and value.get("is_synced"))
        self._client.close()
        return states

    def _look(self) -> None:
        keys = sorted(self._client.scan_iter(KEYS))
        values = [self._read(key) for key in keys]
        rate = sum((value or {}).get("health", {}).get("messages_per_s") or 0 for value in values)
        self.rates.append(rate)
        synced = [
            key
            for key, value in zip(keys, values, strict=True)
            if value and self._is_sane(key, value)
        ]
        if synced:
            self._compare(self._draw.choice(synced))

    def _read(self, key: str) -> dict[str, Any] | None:
        text: Any = self._client.get(key)
        value: dict[str, Any] | None = None if text is None else json.loads(text)
        return value

    def _is_sane(self, key: str, value: dict[str, Any]) -> bool:
        """Whether it is served as a synchronised book; what it must not be is noted."""
        bids, asks = value.get("bids") or [], value.get("asks") or []
        self.sane.looked_at += 1
        if not value["is_synced"]:
            self.found["withheld"] += 1
            if bids or asks:
                self.sane.broken.append(f"{key}: levels of a withheld book")
            return False
        self.found["synchronised"] += 1
        prices = [[level[0] for level in side] for side in (bids, asks)]
        is_sorted = prices[0] == sorted(set(prices[0]), reverse=True)
        is_sorted = is_sorted and prices[1] == sorted(set(prices[1]))
        if not (bids and asks and is_sorted and bids[0][0] < asks[0][0]):
            self.sane.broken.append(f"{key}: {bids[:2]} {asks[:2]}")
        elif max(len(bids), len(asks)) > MOST_LEVELS or value["reason"]:
            self.sane.broken.append(f"{key}: {len(bids)} and {len(asks)} levels, {value['reason']}")
        return True

    def _compare(self, key: str) -> None:
        _, exchange, symbol = key.split(":")
        truth = answer_of(self._sandbox, "/control/book", exchange=exchange, symbol=symbol)
        updates = {update for name, update in truth["topics"].items() if _is_whole(name)}
        until = time.monotonic() + WAITS_S
        while time.monotonic() < until:
            value = self._read(key)
            if value is not None and value["is_synced"] and value["sequence"] in updates:
                self._judge(key, value, truth)
                return
            time.sleep(0.01)
        self.found["missed"] += 1

    def _judge(self, key: str, value: dict[str, Any], truth: dict[str, Any]) -> None:
        self.true.looked_at += 1
        for side in ("bids", "asks"):
            served = [[float(number) for number in level] for level in value[side]]
            real = [[float(number) for number in level] for level in truth[side]]
            if served != real[: len(served)]:
                first = next(
                    (pair for pair in zip(served, real, strict=False) if pair[0] != pair[1]), None
                )
                self.true.broken.append(f"{key} {side} at {value['sequence']}: {first}")
                return


def _is_whole(topic: str) -> bool:
    """Whether a topic carries whole books, and not only best prices: each counts on its own."""
    return "@depth" in topic or (topic.startswith("orderbook.") and "k.1." not in topic)
