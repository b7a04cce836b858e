"""Executions that were tried: each leaves a row, and what raised holds up nothing else.

What raises changed nothing: its transaction is gone, and the row is written in another. A signal
that raises waits and is tried again, `MOST_TRIES` times; then it opens nothing any more. What it
has to close is never given up: it is tried on, after pauses that grow, and people are told. When
most executions of an account raise, the account is halted.

Where the database itself does not answer nothing can be written, so that is left to the caller.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Count, Exists, Max, OuterRef, Q

from collectors import clock
from risk.models import RiskDecision
from risk.services import refuse
from signals.models import Signal
from trading.events import decisions_recorded
from trading.models import Account, AttemptOutcome, ExecutionAttempt, Order, PendingSignal, Position
from trading.selectors import MOST_TRIES, done_attempts
from trading.services.accounts import locked_account
from trading.services.trading_state import BREAKER_WINDOW, check_executions

log = structlog.get_logger(__name__)

EXECUTION_ERROR = "execution_error"
# How long a close waits after its last failure, wall time: twice as long after each further one.
FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(minutes=10)
# For how long attempts are there to be looked at.
KEPT_FOR = timedelta(days=30)
CHUNK = 5_000
# The database's own trouble, not that of what was executed.
UNREACHABLE = (OperationalError, InterfaceError)


def record_done(
    *, account: Account, started: float, signal: Signal | None = None, order: Order | None = None
) -> None:
    """Write that an execution ended, of a signal once; `started` is of `time.perf_counter`.

    Runs in the execution's own transaction.
    """
    _write(account, AttemptOutcome.DONE, started, signal=signal, order=order)


def record_failure(
    *, account: Account, error: Exception, started: float, order: Order | None = None
) -> None:
    """Write what an order, or an instrument's orders, raised; halts who fails too often.

    Runs inside the account's lock, after the savepoint of the execution was rolled back.
    """
    log.error("execution_failed", account=account.pk, order=order and order.pk, exc_info=error)
    _write(account, AttemptOutcome.FAILED, started, order=order, error=error)
    check_executions(account=account)


def put_off_signal(
    *,
    account_id: int,
    signal: Signal,
    run_bar: datetime | None,
    error: Exception,
    started: float,
) -> None:
    """Write what the execution of a signal raised, and let it wait, or refuse it for good.

    `run_bar` is that of the execution, None for a retry. Takes the account's lock.
    """
    log.error("execution_failed", account=account_id, signal=signal.pk, exc_info=error)
    with locked_account(account_id) as account:
        _write(account, AttemptOutcome.FAILED, started, signal=signal, error=error)
        failed = ExecutionAttempt.objects.filter(
            account=account, signal=signal, outcome=AttemptOutcome.FAILED
        ).count()
        waiting = PendingSignal.objects.filter(account=account, instrument=signal.instrument)
        if failed >= MOST_TRIES:
            closes = _closes(account, signal)
            if not closes:
                waiting.filter(signal=signal).delete()
            if signal.direction or not closes:
                _refuse(account, signal, error)
        elif run_bar is not None and _may_wait(account, signal, run_bar):
            waiting.update_or_create(
                account=account, instrument=signal.instrument, defaults={"signal": signal}
            )
        check_executions(account=account)


def ripe_signals(*, account: Account) -> list[Signal]:
    """The signals that wait and may be tried now, oldest first: all but those that have failed
    again and again and have not had their pause."""
    pending = PendingSignal.objects.filter(account=account).select_related("signal__instrument")
    signals = [row.signal for row in pending.order_by("id")]
    if not signals:
        return []
    failures = (
        ExecutionAttempt.objects.filter(
            account=account, signal__in=signals, outcome=AttemptOutcome.FAILED
        )
        .order_by()
        .values("signal")
        .annotate(count=Count("pk"), last=Max("at"))
    )
    failed = {row["signal"]: (row["count"], row["last"]) for row in failures}
    now = clock.wall_now()
    return [
        signal
        for signal in signals
        if signal.pk not in failed or now - failed[signal.pk][1] >= _pause(failed[signal.pk][0])
    ]


def forget_attempts(*, kept_for: timedelta = KEPT_FOR) -> int:
    """Delete the attempts older than `kept_for` (wall time) that nothing asks about any more; gives
    how many.

    Each account keeps its newest, which the breaker counts, and whatever is of a signal that still
    waits, or whose bar the account has not worked off.
    """
    horizon = clock.wall_now() - kept_for
    deleted = 0
    for account in Account.objects.all():
        attempts = ExecutionAttempt.objects.filter(account=account)
        newest = attempts.order_by("-id").values_list("pk", flat=True)
        first_kept = newest[BREAKER_WINDOW - 1 : BREAKER_WINDOW].first()
        if first_kept is None or account.processed_bar is None:
            continue
        is_over = Q(signal=None) | Q(signal__bar_open_time__lte=account.processed_bar)
        waits = PendingSignal.objects.filter(account=account, signal=OuterRef("signal"))
        old = attempts.filter(is_over, ~Exists(waits), at__lt=horizon, pk__lt=first_kept)
        while chunk := list(old.order_by().values_list("pk", flat=True)[:CHUNK]):
            deleted += ExecutionAttempt.objects.filter(pk__in=chunk).delete()[0]
    return deleted


def _pause(failures: int) -> timedelta:
    """How long what has failed so often waits; at first nothing."""
    if failures < MOST_TRIES:
        return timedelta(0)
    doubled: int = 1 << min(failures - MOST_TRIES, 16)
    return min(FIRST_PAUSE * doubled, LONGEST_PAUSE)


def _closes(account: Account, signal: Signal) -> bool:
    """Whether the signal has to end something that is held."""
    held = Position.objects.filter(account=account, instrument=signal.instrument).first()
    return held is not None and held.direction not in (0, signal.direction)


def _write(
    account: Account,
    outcome: str,
    started: float,
    *,
    signal: Signal | None = None,
    order: Order | None = None,
    error: Exception | None = None,
) -> None:
    attempt = ExecutionAttempt(
        account=account,
        signal=signal,
        order=order,
        outcome=outcome,
        error="" if error is None else f"{type(error).__name__}: {error}"[:300],
        duration_ms=(time.perf_counter() - started) * 1000.0,
        at=clock.wall_now(),
    )
    # Another worker on the same bar run finds that nothing is left to do, and says so too.
    ExecutionAttempt.objects.bulk_create([attempt], ignore_conflicts=True)


def _may_wait(account: Account, signal: Signal, run_bar: datetime) -> bool:
    """Whether what raised is still to be done: the bar run is not worked off, nobody else has done
    it meanwhile, and nothing newer waits in its place."""
    if account.processed_bar is not None and account.processed_bar >= run_bar:
        return False
    newer = PendingSignal.objects.filter(
        account=account, instrument=signal.instrument, signal__at__gt=signal.at
    )
    return not newer.exists() and not done_attempts(account=account, signal=signal).exists()


def _refuse(account: Account, signal: Signal, error: Exception) -> None:
    if RiskDecision.objects.filter(profile=account.profile, signal=signal).exists():
        return
    decision = refuse(
        profile=account.profile,
        instrument=signal.instrument,
        direction=signal.direction,
        reason=EXECUTION_ERROR,
        at=clock.now(),
        signal=signal,
        context={"error": f"{type(error).__name__}: {error}"[:300], "tries": MOST_TRIES},
    )
    transaction.on_commit(
        partial(decisions_recorded.send_robust, sender=RiskDecision, decision_ids=[decision.pk]),
        robust=True,
    )
