"""How the trades of a strategy ended, which Kelly's bet is made from; added up trade by trade.

An account's trades are numbered and committed under its lock, so those after the last one that was
counted are all that is new; only a later funding payment changes what an older trade brought, and
then all of them are added up again. So a process remembers its sums with the last trade and the
last payment that are in them, once the transaction that saw these is committed, and what it gives
is exact.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import NamedTuple

from django.db import connection, transaction

from risk.portfolio import Record
from trading.models import FundingPayment, Trade
from trading.orders import MONEY_UNITS

# Every assessment asks it under the account's lock: the ORM would take longer to write it than the
# database to answer it.
QUERY = f"""
    SELECT COUNT(*), COUNT(*) FILTER (WHERE net > 0),
        COALESCE(SUM(net), 0), COALESCE(SUM(net) FILTER (WHERE net > 0), 0),
        COALESCE(MAX(id), 0), (
            SELECT COALESCE(MAX(id), 0) FROM {FundingPayment._meta.db_table} WHERE account_id = %s
        )
    FROM (
        SELECT id, pnl - fees + funding AS net FROM {Trade._meta.db_table}
        WHERE account_id = %s AND strategy = %s AND id > %s
    ) AS trades
"""


class _Sums(NamedTuple):
    """Money in units, and the last trade and funding payment that are in it."""

    trades: int = 0
    wins: int = 0
    net: int = 0
    won: int = 0
    last_trade: int = 0
    last_payment: int = 0


_Key = tuple[str, int, str]  # database, account, strategy
_known: dict[_Key, _Sums] = {}
_lock = threading.Lock()


def strategy_record(*, account_id: int, strategy: str) -> Record:
    """How the strategy's closed trades in the account ended, after fees and funding."""
    key = (str(connection.settings_dict["NAME"]), account_id, strategy)
    known = _known.get(key, _Sums())
    sums = _add(known, account_id, strategy)
    if sums.last_payment != known.last_payment and known.trades:
        sums = _add(_Sums(), account_id, strategy)
    if sums != known:
        # What is seen inside a transaction may never come to be.
        transaction.on_commit(partial(_remember, key, sums))
    return Record(
        trades=sums.trades,
        wins=sums.wins,
        won=sums.won / MONEY_UNITS,
        lost=(sums.won - sums.net) / MONEY_UNITS,
    )


def _add(known: _Sums, account_id: int, strategy: str) -> _Sums:
    """What is known and all trades since."""
    with connection.cursor() as cursor:
        cursor.execute(QUERY, [account_id, account_id, strategy, known.last_trade])
        trades, wins, net, won, last_trade, last_payment = map(int, cursor.fetchone())
    return _Sums(
        trades=known.trades + trades,
        wins=known.wins + wins,
        net=known.net + net,
        won=known.won + won,
        last_trade=max(known.last_trade, last_trade),
        last_payment=last_payment,
    )


def _remember(key: _Key, sums: _Sums) -> None:
    with _lock:
        known = _known.get(key, _Sums())
        if (sums.last_trade, sums.last_payment) >= (known.last_trade, known.last_payment):
            _known[key] = sums
