"""The calls of the last minute, shared by all processes in Redis and counted without a gap.

A provider counts calls in minutes of its own clock, at the moment a call arrives; we only know that
a call arrives between its reservation and its answer. So a call takes its weight from its
reservation until WINDOW_S of market time after its answer. When the last call that arrives in any
one minute is reserved, each of the others is either unanswered or was answered in that minute: all
are still counted, and their sum was within the limit. This holds whatever the latency is, and
wherever the provider's minute begins. A call that is never settled (its process was killed) is
taken to have arrived within HOLD_S of wall time.

Whoever finds no room queues: the room that those ahead of it need is not given away, and each is
told when its own turn is likely, so that it sleeps until then.

What Redis holds is valid under a marker that names the run of the server. Where the marker is
missing or names another run (an emptied, new or restarted server, also one with an old file), or
the clock has gone back, the next script says `load`, and nothing is reserved before `load` has
put back what the database remembers.

The time is that of the Redis server, one clock for all. Redis Cluster is not supported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

import redis

from collectors import call_scripts, clock
from collectors.marketdata import from_ms, to_ms

# A minute, and what the clocks of two machines may differ in rate within one.
WINDOW_S = 60.01
HOLD_S = 60.0  # wall
# How long (wall) after it was given up a call may still arrive; and how long after its reservation,
# if only the database remembers it: as long as a connection may take, and a second.
GUARD_S = 2.0
LOADED_GUARD_S = 6.0
# A waiter that does not come back this much after its turn has died (wall).
PROMISE_S = 1.0
LOADING_S = 10.0
# A provider's minute may begin a little after ours; what it has counted may then be the last one's.
RECONCILE_AFTER_S = 2.0

Verdict = Literal["granted", "wait", "refused", "month", "load", "loading"]

PREFIX = "provider_budget:"


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a try for room gave: `at` is when it was granted, else when it is worth another try.

    `wait_s` is how far off that is (wall), `reason` is `minute`, `month` or `blocked`; `marker`
    names what was valid when it was granted.
    """

    verdict: Verdict
    at: datetime
    wait_s: float = 0.0
    reason: str = ""
    marker: str = ""


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """A provider's calls as the database has them: (minute, weight) of the last minutes, the
    weight since the month's beginning, and for how many seconds (wall) it is still to be left
    alone."""

    minutes: tuple[tuple[datetime, int], ...] = ()
    month_weight: int = 0
    blocked_s: float = 0.0


class CallWindow:
    """The scripts, typed. Times are market time; every method raises redis.RedisError."""

    def __init__(self, client: redis.Redis) -> None:
        self._scripts: dict[str, Any] = {}
        self._client = client

    def try_room(
        self,
        provider: str,
        member: str,
        *,
        weight: int,
        minute_limit: int | None,
        month_limit: int | None,
        patience_s: float,
        nonce: str,
    ) -> Room:
        """Take the room if there is any, else queue, or be refused when the wait would be longer
        than `patience_s` (wall). Asked again with the same `member`, it takes nothing twice.

        With the verdict `load` the caller has LOADING_S to call `load` with its `nonce`; `loading`
        means that somebody else does.
        """
        moment = clock.now()
        for _ in range(3):
            month, following = month_of(moment)
            answer = self._run(
                call_scripts.RESERVE,
                provider,
                member=member,
                weight=weight,
                limit=-1 if minute_limit is None else minute_limit,
                month_limit=-1 if month_limit is None else month_limit,
                month=f"{month:%Y-%m}",
                month_start=to_ms(month),
                month_end=to_ms(following),
                patience=patience_s * 1000,
                promise=PROMISE_S * 1000,
                loading=int(LOADING_S * 1000),
                furthest=(2 * WINDOW_S + (HOLD_S + GUARD_S) * clock.current().speed) * 1000,
                nonce=nonce,
            )
            words = [word.decode() for word in answer]
            if words[0] != "month":
                break
            moment = _moment(words[1])  # the server's clock says another month than ours
        at = _moment(words[1]) if len(words) > 1 else moment
        rest = words[2] if len(words) > 2 else ""
        if words[0] == "granted":
            return Room(verdict="granted", at=at, marker=rest)
        wait_s = float(words[3]) / 1000 if len(words) > 3 else 0.0
        return Room(verdict=words[0], at=at, wait_s=wait_s, reason=rest)

    def confirm(self, provider: str, member: str, marker: str) -> bool:
        """Whether the room that was granted under `marker` is still held."""
        return bool(self._run(call_scripts.CONFIRM, provider, member=member, marker=marker))

    def settle(self, provider: str, member: str, *, is_certain: bool) -> None:
        """The call was answered, or (not `is_certain`) given up and may yet arrive."""
        guard = 0.0 if is_certain else GUARD_S * clock.current().speed * 1000
        self._run(call_scripts.SETTLE, provider, member=member, guard=guard)

    def release(self, provider: str, member: str, marker: str) -> None:
        """Give back the room of a call that was not sent."""
        self._run(call_scripts.RELEASE, provider, member=member, marker=marker)

    def reconcile(self, provider: str, *, used: int, reserved_at: datetime) -> int:
        """Add what the provider has counted beyond our own calls of this minute; gives it."""
        return int(
            self._run(
                call_scripts.RECONCILE,
                provider,
                used=used,
                reserved=to_ms(reserved_at),
                after=RECONCILE_AFTER_S * 1000,
                nonce=uuid4().hex,
            )
        )

    def block(self, provider: str, seconds: float) -> None:
        """Give no room for `seconds` of wall time; a longer block stays."""
        self._run(call_scripts.BLOCK, provider, ms=max(int(seconds * 1000), 1))

    def used(self, provider: str) -> int:
        """The weight that is taken now."""
        return int(self._run(call_scripts.USED, provider))

    def load(self, nonce: str, remembered: Mapping[str, Remembered], *, at: datetime) -> bool:
        """Start anew from what the database remembered at `at`; False when another was first."""
        providers = {
            provider: {
                "entries": [
                    [to_ms(expires), weight]
                    for minute, weight in of.minutes
                    if (expires := expiry_of(minute, at)) > at
                ],
                "month": f"{at:%Y-%m}",
                "month_used": of.month_weight,
            }
            for provider, of in remembered.items()
        }
        return bool(self._run(call_scripts.LOAD, "", nonce=nonce, providers=providers))

    def stand_down(self, nonce: str) -> None:
        """Let somebody else load."""
        self._run(call_scripts.STAND_DOWN, "", nonce=nonce)

    def _run(self, script: str, provider: str, **arguments: Any) -> Any:
        if script not in self._scripts:
            self._scripts[script] = self._client.register_script(call_scripts.PRELUDE + script)
        now = clock.current()
        is_wall = now.start is None or now.anchor is None
        arguments.update(
            provider=provider,
            start=0 if is_wall else _exact_ms(now.start),
            anchor=0 if is_wall else _exact_ms(now.anchor),
            speed=1.0 if is_wall else now.speed,
            window=WINDOW_S * 1000,
            hold=HOLD_S * clock.current().speed * 1000,
        )
        return self._scripts[script](keys=[PREFIX], args=[json.dumps(arguments)])


def month_of(moment: datetime) -> tuple[datetime, datetime]:
    """The beginnings of the moment's month and of the following one, UTC."""
    month = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return month, (month + timedelta(days=32)).replace(day=1)


def expiry_of(minute: datetime, at: datetime) -> datetime:
    """Until when calls stored under `minute` count, as seen at `at`: any of them may have arrived
    as late as LOADED_GUARD_S (wall) after the minute."""
    latest = min(at, minute + timedelta(minutes=1))
    return latest + timedelta(seconds=WINDOW_S) + _loaded_guard()


def memory_start(at: datetime) -> datetime:
    """The first minute whose calls may still count at `at`."""
    return at - timedelta(seconds=60 + WINDOW_S) - _loaded_guard()


def _loaded_guard() -> timedelta:
    return timedelta(seconds=LOADED_GUARD_S) * clock.current().speed


def _exact_ms(moment: datetime | None) -> float:
    return moment.timestamp() * 1000 if moment is not None else 0.0


def _moment(text: str) -> datetime:
    return from_ms(int(float(text))).astimezone(UTC)
