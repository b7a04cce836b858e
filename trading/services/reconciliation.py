"""Checking the books against the ledger: an account that does not add up is halted."""

from __future__ import annotations

import structlog

from collectors import clock
from risk.models import StateCause
from trading.audit import fingerprint
from trading.audits import Reconciliation, audit_books
from trading.models import LedgerMismatch
from trading.services.accounts import locked_account
from trading.services.funding import review_funding
from trading.services.trading_state import trip

log = structlog.get_logger(__name__)


def reconcile(*, account_id: int) -> Reconciliation:
    """Book what is due of funding, then recompute everything from entries and fills; a mismatch
    halts the account and is a row. The account's lock is held for neither."""
    review_funding(account_id=account_id)
    result = audit_books(account_id=account_id)
    if result.differences:
        _halt(account_id, result)
    return result


def _halt(account_id: int, result: Reconciliation) -> None:
    found, wall = list(result.mismatches), clock.wall_now()
    log.error("ledger_mismatch", account=account_id, mismatches=found)
    with locked_account(account_id) as account:
        LedgerMismatch.objects.update_or_create(
            account=account,
            fingerprint=fingerprint(result.differences),
            defaults={"last_seen_at": wall},
            create_defaults={
                "found": found,
                "at": clock.now(),
                "first_seen_at": wall,
                "last_seen_at": wall,
            },
        )
        trip(
            account=account,
            cause=StateCause.LEDGER_MISMATCH,
            reason=f"ledger mismatch: {found[0]}",
            details={"mismatches": found},
        )
