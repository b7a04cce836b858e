"""Signals from outside: each gets one turn at every account that follows them.

A turn is taken in one short transaction under the account's lock: its row, and the signal as the
account's `PendingSignal`. What waits so is executed as every signal that waits for a quote, now or
by whoever comes next: neither a killed worker nor a second one changes that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from django.db import transaction

from collectors import clock
from collectors.marketdata import duration
from risk.models import RiskDecision
from risk.services import refuse
from signals.models import Signal
from signals.outside import newest_outside
from signals.registry import OUTSIDE
from trading.events import decisions_recorded
from trading.models import Account, OutsideTurn, PendingSignal, Position, TurnResult
from trading.orders import transition
from trading.outside import outside_signals_due
from trading.services.accounts import locked_account
from trading.services.execution import LATE, execute_signal


def execute_outside_signals(*, account_id: int) -> int:
    """Give every signal from outside its turn that has had none; gives how many.

    Of several of an instrument only the newest is executed: direction is the wanted state, and the
    others are what was wanted before. One that is older than a bar of its timeframe only closes.
    Raises Account.DoesNotExist.
    """
    account = Account.objects.get(pk=account_id)
    if not account.is_active or OUTSIDE not in account.subscriptions:
        return 0
    count = 0
    while due := outside_signals_due(account=account):
        count += len(due)
        newest = newest_outside(since=min(signal.at for signal in due))
        wanted = [signal for signal in due if signal.at == newest[signal.instrument_id]]
        _pass_over(account, [signal for signal in due if signal not in wanted])
        for signal in wanted:
            if _take_turn(account, signal):
                execute_signal(account=account, signal=signal, run_bar=None)
    return count


def _pass_over(account: Account, signals: Sequence[Signal]) -> None:
    """Give those a turn that nobody wants any more, unless they have had one."""
    turns = [
        OutsideTurn(account=account, signal=signal, result=TurnResult.OVERTAKEN, at=clock.now())
        for signal in signals
    ]
    with locked_account(account.pk):
        OutsideTurn.objects.bulk_create(turns, ignore_conflicts=True)


def _take_turn(account: Account, signal: Signal) -> bool:
    """Whether it is to be executed: the turn is ours, and nothing newer was said."""
    with locked_account(account.pk) as current:
        if OutsideTurn.objects.filter(account=current, signal=signal).exists():
            return False
        if _is_overtaken(current, signal):
            result = TurnResult.OVERTAKEN
        elif clock.now() - signal.at > clock.current().widen(duration(signal.timeframe)):
            result = TurnResult.LATE
            _refuse_opening(current, signal)
        else:
            result = TurnResult.EXECUTED
        OutsideTurn.objects.create(account=current, signal=signal, result=result, at=clock.now())
        if result == TurnResult.OVERTAKEN:
            return False
        PendingSignal.objects.update_or_create(
            account=current, instrument=signal.instrument, defaults={"signal": signal}
        )
        return True


def _is_overtaken(account: Account, signal: Signal) -> bool:
    """Whether something newer was said of the instrument, from outside or to wait for a quote."""
    newest = newest_outside(since=signal.at)[signal.instrument_id]
    waits = PendingSignal.objects.filter(account=account, instrument=signal.instrument)
    return newest > signal.at or waits.filter(signal__at__gt=signal.at).exists()


def _refuse_opening(account: Account, signal: Signal) -> None:
    """Say that a late signal does not open, if it would; what it closes, it closes still."""
    position = Position.objects.filter(account=account, instrument=signal.instrument).first()
    _, opens = transition(position.direction if position else 0, signal.direction)
    if not opens:
        return
    decision = refuse(
        profile=account.profile,
        instrument=signal.instrument,
        direction=signal.direction,
        reason=LATE,
        at=clock.now(),
        signal=signal,
        context={"signal_at": signal.at.isoformat()},
    )
    transaction.on_commit(
        partial(decisions_recorded.send_robust, sender=RiskDecision, decision_ids=[decision.pk]),
        robust=True,
    )
