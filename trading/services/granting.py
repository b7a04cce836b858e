"""Risk's word on an entry that rested: asked again at the moment at which it would fill.

Runs inside the transaction of `locked_account`.
"""

from __future__ import annotations

import math
from datetime import datetime
from functools import partial

from django.db import transaction

from risk.assessment import Request, Verdict
from risk.models import RiskDecision
from risk.services import assess
from trading.events import decisions_recorded
from trading.models import Account, Order
from trading.orders import Grid
from trading.selectors import account_portfolio
from trading.services.assessment import or_nan
from trading.services.booking import MANUAL
from trading.services.venues import venue_of


def assess_entry(
    *, account: Account, order: Order, side: int, steps: int, ticks: int, at: datetime
) -> tuple[RiskDecision, Verdict]:
    """The verdict on `steps` of a working entry at `ticks`, stored as a decision of its own.

    It may grant fewer steps than were asked for, never more.
    """
    grid = Grid.of(order.tick_size, order.quantity_step)
    step_notional = grid.step_notional(ticks)
    venue = venue_of(instrument=order.instrument, exchange=order.exchange, at=at)
    strategy = order.signal.strategy if order.signal is not None else MANUAL
    portfolio = partial(account_portfolio, account=account, bar=None, strategy=strategy)
    equity = portfolio().equity
    # Half a step more, so that the way through a fraction of equity loses no whole step.
    wanted = (steps + 0.5) * step_notional / equity if equity > 0.0 else math.nan
    decision, verdict = assess(
        profile=account.profile,
        portfolio=portfolio,
        instrument=order.instrument,
        request=Request(
            direction=side,
            confidence=_confidence(order),
            price=grid.price(ticks),
            stop_loss=or_nan(order.stop_loss),
            take_profit=or_nan(order.take_profit),
            proposed_size=min(wanted, 1.0),
            step_notional=step_notional,
            # What is left of an order that was large enough may be small.
            min_notional=venue.min_notional if venue and not order.filled_steps else 0.0,
        ),
        at=at,
        strategy=strategy,
        context={"order": order.pk},
    )
    announce_decision(decision)
    return decision, verdict


def announce_decision(decision: RiskDecision) -> None:
    """Tell downstream of a decision once it is committed."""
    transaction.on_commit(
        partial(decisions_recorded.send_robust, sender=RiskDecision, decision_ids=[decision.pk]),
        robust=True,
    )


def _confidence(order: Order) -> float:
    """What the order was wanted with: its decision's word, its signal's, or a person's."""
    if order.decision is not None and "confidence" in order.decision.inputs:
        return float(order.decision.inputs["confidence"])
    return order.signal.confidence if order.signal is not None else 1.0
