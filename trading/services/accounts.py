"""Accounts: made with their first deposit, locked for every change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction

from collectors import clock
from risk.models import RiskProfile
from risk.services import create_profile
from trading.fields import to_units
from trading.models import (
    ENTRY_LEGS,
    Account,
    Book,
    Order,
    OrderStatus,
    PendingSignal,
    TransactionKind,
    default_subscriptions,
)
from trading.orders import TAKER_FEE_PPM
from trading.services.desk_lock import share_desk
from trading.services.ledger import post_transaction

PAPER = "paper"


@contextmanager
def locked_account(account_id: int) -> Iterator[Account]:
    """A transaction that holds the account's lock: the row of its risk profile.

    Whatever changes the account's books or its trading state takes this lock first, so workers
    take turns and see each other's committed rows. Accounts do not wait for each other.
    """
    with transaction.atomic():
        profile = RiskProfile.objects.select_for_update(of=("self",)).get(account=account_id)
        share_desk()
        account = Account.objects.get(pk=account_id)
        account.profile = profile
        yield account


def seed_account() -> Account:
    """The account "paper" with the profile of the environment, made at the first start only.

    On a clock with a start it opens at that start, not when the machine got round to it: so two
    runs of the same history begin with the same bar.
    """
    existing = Account.objects.filter(name=PAPER).first()
    if existing is not None:
        return existing
    environment = settings.ENV
    return create_account(
        name=PAPER,
        initial_capital=Decimal(str(environment.initial_capital)),
        max_position_size=environment.max_position_size,
        max_portfolio_risk=environment.max_portfolio_risk,
        at=clock.current().start,
    )


def create_account(
    *,
    name: str,
    initial_capital: Decimal,
    exchange: str = "binance",
    timeframe: str = "1h",
    subscriptions: Sequence[str] | None = None,
    max_position_size: float = 0.10,
    max_portfolio_risk: float = 0.25,
    at: datetime | None = None,
) -> Account:
    """An account with its own risk profile and the deposit of its capital, in one transaction.

    `at` is the market time of its opening, by default now; without `subscriptions` it follows the
    consensus. Raises ValidationError naming the wrong field.
    """
    if exchange not in TAKER_FEE_PPM:
        raise ValidationError({"exchange": f"one of {', '.join(TAKER_FEE_PPM)}"})
    if not initial_capital.is_finite() or initial_capital <= 0:
        raise ValidationError({"initial_capital": "a positive amount"})
    now = at or clock.now()
    with transaction.atomic():
        profile = create_profile(
            name=name,
            values={
                "max_position_size": max_position_size,
                "max_portfolio_risk": max_portfolio_risk,
            },
        )
        account = Account(
            name=name,
            profile=profile,
            exchange=exchange,
            timeframe=timeframe,
            subscriptions=default_subscriptions() if subscriptions is None else list(subscriptions),
            initial_capital=initial_capital,
            cash=Decimal(0),
            high_water_mark=initial_capital,
            day_start_equity=initial_capital,
            day=now.date(),
            created_at=now,
        )
        account.full_clean()
        account.save()
        post_transaction(
            account=account,
            kind=TransactionKind.DEPOSIT,
            key="deposit",
            counter_amounts={Book.CAPITAL: -to_units(initial_capital)},
            at=now,
        )
    return account


def update_account(
    *,
    account_id: int,
    subscriptions: Sequence[str] | None = None,
    is_active: bool | None = None,
    latency_ms: int | None = None,
    is_pyramiding: bool | None = None,
) -> Account:
    """Change what an account follows, whether it trades at all, and how; None leaves a value alone.

    An account that follows nothing, or is switched off, enters nothing; stops, targets and people
    still close what it holds. Switching it off cancels its working entries, and what waited for a
    quote is forgotten. Raises ValidationError naming the wrong field.
    """
    asked = {
        "subscriptions": None if subscriptions is None else list(subscriptions),
        "is_active": is_active,
        "latency_ms": latency_ms,
        "is_pyramiding": is_pyramiding,
    }
    changes = {name: value for name, value in asked.items() if value is not None}
    with locked_account(account_id) as account:
        for name, value in changes.items():
            setattr(account, name, value)
        account.clean_fields(
            exclude={field.name for field in Account._meta.fields} - changes.keys()
        )
        account.save(update_fields=list(changes))
        if is_active is False:
            working = Order.objects.filter(account=account, status=OrderStatus.WORKING)
            working.filter(leg__in=ENTRY_LEGS).update(
                status=OrderStatus.CANCELLED,
                reason="the account was switched off",
                ended_at=clock.now(),
            )
            PendingSignal.objects.filter(account=account).delete()
    return account
