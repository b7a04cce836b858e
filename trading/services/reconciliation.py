"""Checking the books against the ledger: an account that does not add up is halted."""

from __future__ import annotations

import structlog

from risk.models import StateCause
from trading.selectors import Reconciliation, recompute_books
from trading.services.accounts import locked_account
from trading.services.trading_state import trip

log = structlog.get_logger(__name__)


def reconcile(*, account_id: int) -> Reconciliation:
    """Recompute cash and positions from entries and fills; a mismatch halts the account."""
    with locked_account(account_id) as account:
        result = recompute_books(account=account)
        if result.mismatches:
            trip(
                account=account,
                cause=StateCause.LEDGER_MISMATCH,
                reason=f"ledger mismatch: {result.mismatches[0]}",
                details={"mismatches": list(result.mismatches)},
            )
    if result.mismatches:
        log.error("ledger_mismatch", account=account_id, mismatches=result.mismatches)
    return result
