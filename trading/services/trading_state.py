"""The trading state of an account and of the desk: thrown by people, tripped by figures.

An order's transaction holds its account's lock and reads both states under it. So an account's
switch takes that lock. The desk's switch commits its row first: whoever looks from then on meets
it. Then it waits, for a moment, until nobody is at work who may have looked before.

Halted or reducing, by whomever, working entries are cancelled: whoever wants less exposure does
not want an old wish to come true once things go on. Staleness passes by itself, so under it they
wait, as signals that would enter do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import structlog
from django.db import OperationalError, transaction
from django.db.models import QuerySet

from collectors import clock
from risk.models import Desk, StateCause, TradingState, TradingStateChange
from risk.portfolio import loss_fraction
from risk.selectors import limits_of, read_desk, state_in_force
from risk.services import check_switch, record_state, tell_change
from trading.fields import from_units, to_units
from trading.holdings import marked_equity
from trading.models import (
    ENTRY_LEGS,
    Account,
    AttemptOutcome,
    ExecutionAttempt,
    Order,
    OrderStatus,
)
from trading.selectors import holding_of, marks_at, open_positions
from trading.services.accounts import locked_account
from trading.services.desk_lock import hold_desk
from trading.services.quotes import current_offer
from trading.ticks import level_ticks

log = structlog.get_logger(__name__)

# The breaker: so many failures, if they are more than this share of the newest executions.
BREAKER_ERRORS = 10
BREAKER_SHARE = 0.8
BREAKER_WINDOW = 100


class StillAtWorkError(Exception):
    """The desk's switch is set, but somebody who was at work before is so still (retryable)."""


def set_trading_state(*, account_id: int, state: str, reason: str, by: str) -> TradingStateChange:
    """A person throws the switch of one account. Once it answers, no opening order commits.

    Whoever takes an account out of a halt that figures caused, or would cause again at once,
    accepts the loss: the high-water mark and the day's start become what the account is worth now.
    Raises ValidationError for an unknown state or without a reason.
    """
    check_switch(state=state, reason=reason)
    prices = {} if state == TradingState.HALTED else _read_prices(account_id)
    with locked_account(account_id) as account:
        details: dict[str, Any] = {}
        if account.profile.trading_state == TradingState.HALTED != state:
            details = _accept_losses(account, prices)
        return _switch(account, state, StateCause.PERSON, reason, by=by, details=details)


def set_desk_state(*, state: str, reason: str, by: str) -> TradingStateChange:
    """A person throws the switch of all accounts. Once it answers, none commits an opening order.

    May not be called in a transaction. Raises ValidationError for an unknown state or without a
    reason, and StillAtWorkError when a worker does not come to the end of what it does: then the
    state is set, and only the promise cannot be given.
    """
    check_switch(state=state, reason=reason)
    with transaction.atomic(durable=True):
        change = record_state(
            owner=lock_desk(),
            state=state,
            cause=StateCause.PERSON,
            reason=reason,
            by=by,
            is_told=False,
        )
    try:
        if state != TradingState.ACTIVE:
            with transaction.atomic(durable=True):
                hold_desk()
                _cancel_everywhere()
    except OperationalError as error:
        raise StillAtWorkError(
            f"all accounts are {state}, but an order that was at work before is not done yet:"
            " set it again to be sure"
        ) from error
    finally:
        # Only now: a broker that is slow to answer must not keep anybody from being stopped.
        tell_change(change)
    return change


def lock_desk() -> Desk:
    """The desk's row, held until the end of the transaction."""
    Desk.objects.get_or_create(pk=Desk.ONLY)
    return Desk.objects.select_for_update().get(pk=Desk.ONLY)


def trip(
    *, account: Account, cause: str, reason: str, details: dict[str, Any] | None = None
) -> TradingStateChange | None:
    """Halt an account because of its figures, until a person resets it; None if it is halted.

    Runs inside the account's lock.
    """
    if account.profile.trading_state == TradingState.HALTED:
        return None
    log.error("trading_halted", account=account.pk, cause=cause, reason=reason)
    return _switch(account, TradingState.HALTED, cause, reason, details=details or {})


def check_trips(*, account: Account, equity: int) -> TradingStateChange | None:
    """Halt an account that is worth too little (`equity` in money units) or fails too often.

    Call it inside the account's lock wherever the account is marked, after its marks were rolled.
    """
    if account.profile.trading_state == TradingState.HALTED:
        return None
    found = _loss(account, equity) or _failures(account)
    return None if found is None else trip(account=account, **found)


def check_executions(*, account: Account) -> TradingStateChange | None:
    """Halt an account most of whose executions fail. Runs inside its lock."""
    found = _failures(account)
    return None if found is None else trip(account=account, **found)


def cancel_entries(*, account: Account) -> int:
    """Cancel the working entries of an account that may not enter; how many there were.

    Runs inside the account's lock.
    """
    in_force = state_in_force(profile=account.profile)
    if in_force.may_enter or in_force.is_waiting:
        return 0
    return _cancel(_working_entries().filter(account=account), in_force.state)


def sweep_entries() -> int:
    """Cancel what a desk switch that died on its way left working; how many orders."""
    if read_desk().trading_state == TradingState.ACTIVE or not _working_entries().exists():
        return 0
    with transaction.atomic():
        hold_desk()
        return _cancel_everywhere()


def _cancel_everywhere() -> int:
    """Cancel the working entries of all accounts, for the desk's state. Nobody is at work."""
    state = read_desk().trading_state
    return 0 if state == TradingState.ACTIVE else _cancel(_working_entries(), state)


def _working_entries() -> QuerySet[Order]:
    return Order.objects.filter(status=OrderStatus.WORKING, leg__in=ENTRY_LEGS)


def _cancel(orders: QuerySet[Order], state: str) -> int:
    return orders.update(
        status=OrderStatus.CANCELLED, reason=f"trading is {state}", ended_at=clock.now()
    )


def _switch(
    account: Account,
    state: str,
    cause: str,
    reason: str,
    *,
    by: str = "",
    details: dict[str, Any],
) -> TradingStateChange:
    change = record_state(
        owner=account.profile, state=state, cause=cause, reason=reason, by=by, details=details
    )
    cancel_entries(account=account)
    return change


class Trip(TypedDict):
    """What halts an account."""

    cause: StateCause
    reason: str
    details: dict[str, Any]


def _loss(account: Account, equity: int) -> Trip | None:
    limits = limits_of(profile=account.profile)
    for cause, words, mark, bound in (
        (StateCause.DRAWDOWN, "below its high-water mark", account.high_water_mark,
         limits.max_drawdown),
        (StateCause.DAILY_LOSS, "below the day's start", account.day_start_equity,
         limits.max_daily_loss),
    ):  # fmt: skip
        lost = loss_fraction(float(equity), float(to_units(mark)))
        if lost >= bound:
            details = {
                "equity": str(from_units(equity)),
                "high_water_mark": str(account.high_water_mark),
                "day_start_equity": str(account.day_start_equity),
                "lost": lost,
                "limit": bound,
            }
            reason = f"{lost:.2%} {words}, the limit is {bound:.2%}"
            return Trip(cause=cause, reason=reason, details=details)
    return None


def _failures(account: Account) -> Trip | None:
    """Too many failures among the newest executions since the state last changed."""
    attempts = ExecutionAttempt.objects.filter(account=account)
    last = account.profile.state_changed_at
    if last is not None:
        attempts = attempts.filter(at__gt=last)
    newest = list(attempts.order_by("-id").values_list("outcome", "error")[:BREAKER_WINDOW])
    errors = [error for outcome, error in newest if outcome == AttemptOutcome.FAILED]
    if len(errors) < BREAKER_ERRORS or len(errors) <= BREAKER_SHARE * len(newest):
        return None
    reason = f"{len(errors)} of the last {len(newest)} executions failed"
    details = {"failed": len(errors), "executions": len(newest), "newest_error": errors[0]}
    return Trip(cause=StateCause.ERRORS, reason=reason, details=details)


def _accept_losses(account: Account, prices: Mapping[str, float]) -> dict[str, Any]:
    """Count losses from now on, if it was they, or a fault, that halted the account."""
    equity = _worth(account, prices)
    halt = (
        TradingStateChange.objects.filter(profile=account.profile, to_state=TradingState.HALTED)
        .exclude(from_state=TradingState.HALTED)
        .first()
    )
    is_latched = halt is not None and halt.cause != StateCause.PERSON
    if not is_latched and _loss(account, equity) is None:
        return {}
    before = {
        "high_water_mark": str(account.high_water_mark),
        "day_start_equity": str(account.day_start_equity),
    }
    account.high_water_mark = account.day_start_equity = from_units(equity)
    account.save(update_fields=["high_water_mark", "day_start_equity"])
    return {"equity": str(from_units(equity)), "before": before}


def _read_prices(account_id: int) -> dict[str, float]:
    """The mid prices of what an account holds, where fresh quotes say them. Reads Redis."""
    account = Account.objects.get(pk=account_id)
    prices = {}
    for position in open_positions(account_id=account_id):
        offer = current_offer(account=account, instrument=position.instrument, since=None)
        if offer.quote is not None:
            middle = (offer.quote.best_bid + offer.quote.best_ask) / 2.0
            prices[position.instrument.coin_id] = middle
    return prices


def _worth(account: Account, prices: Mapping[str, float]) -> int:
    """The account's equity in money units at the prices, else at the newest closes."""
    holdings = [holding_of(position=row) for row in open_positions(account_id=account.pk)]
    marks = marks_at(holdings=holdings, timeframe=account.timeframe, bar=None)
    for holding in holdings:
        if holding.coin_id in prices:
            grid = holding.grid
            price = prices[holding.coin_id]
            marks[holding.coin_id] = level_ticks(price, grid.tick_num, grid.tick_den)
    return marked_equity(cash=to_units(account.cash), holdings=holdings, marks=marks)
