"""Requests that were refused before risk could judge them: kept as rows."""

from __future__ import annotations

from typing import Any

from collectors import clock
from trading.models import RefusedRequest


def keep_refused_request(
    *, address: str, by: str, reason: str, asked: Any = None, account_id: int | None = None
) -> RefusedRequest:
    """The row of a request that came to nothing; what strangers wrote is kept short, in ASCII."""
    return RefusedRequest.objects.create(
        at=clock.now(),
        account_id=account_id,
        address=ascii(address)[1:-1][:200],
        by=by[:150],
        reason=ascii(reason)[1:-1][:300],
        asked="" if not asked else ascii(asked)[:1000],
    )
