"""One pass: what every strategy says over one history, and what became of each that failed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from signals.driver import restricted, run_pinned
from signals.histories import History
from signals.selectors import Member
from signals.silence import shortened, withheld
from signals.strategy import Analysis

log = structlog.get_logger(__name__)

# Of wall time, for one of ours. A pass takes milliseconds; one that takes this long computes
# something else than it should, and the next bar comes.
LIMIT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What each strategy said at the bars from `start` on; who failed is not among them.

    `durations` are wall seconds, also of those that failed. `silences` has for each wanted bar, by
    strategy, the instruments of which it could say nothing, and why.
    """

    analyses: dict[str, Analysis] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)
    silences: list[dict[str, dict[str, str]]] = field(default_factory=list)


def run_members(
    *, members: Mapping[str, Member], history: History, start: datetime, rows: int
) -> Pass:
    """Run every strategy over the bars from `start` on, of which the last `rows` are wanted.

    A strategy that raises, or takes longer than LIMIT_S, is left out with what it did; the others
    go on. What a slow one found is not used: at the next bar it says what it missed, and a machine
    whose strategies are late is not to trade as if they were not.
    """
    done = Pass(silences=[{} for _ in range(rows)])
    for name, member in members.items():
        began = time.perf_counter()
        try:
            analysis = restricted(
                run_pinned(member.strategy, history.market, start=start),
                instruments=history.market.instruments,
                assets=member.assets,
            )
        except Exception as error:
            log.exception("strategy_failed", strategy=name, bar=start.isoformat())
            done.failures[name] = f"{type(error).__name__}: {error}"[:500]
            continue
        finally:
            seconds = done.durations[name] = round(time.perf_counter() - began, 6)
        if seconds > LIMIT_S:
            log.error("strategy_too_slow", strategy=name, seconds=seconds, limit=LIMIT_S)
            done.failures[name] = f"took {seconds:.1f} s, limit {LIMIT_S:g} s"
            continue
        done.analyses[name] = analysis
        _note_silences(done, name, member, history)
    return done


def _note_silences(done: Pass, name: str, member: Member, history: History) -> None:
    market = history.market
    first = len(market.open_time) - len(done.silences)
    for index, silences in enumerate(done.silences):
        reasons = withheld(member.strategy, market, first + index, history.macro_released)
        if reasons := shortened(reasons, instruments=market.instruments, assets=member.assets):
            silences[name] = reasons
