"""The lock between orders and the desk's switch, which has to know when nobody is left who read
the state before.

On PostgreSQL whoever changes an account's books shares an advisory lock until the end of the
transaction, and the switch takes it alone: it waits for those who are at work, and not for those
who queue for a lock of theirs. Accounts never wait for each other, but for the moment of a switch.
SQLite lets nobody write beside somebody else anyway.
"""

from __future__ import annotations

from django.db import connection

DESK_LOCK = 4_203_177_502
# A worker that is stopped in the middle of an order must not stop all others for good: the switch
# gives up its wait, and says so.
PATIENCE = "5s"


def share_desk() -> None:
    """Be among those whom the switch waits for, until the end of the transaction."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [DESK_LOCK])


def hold_desk() -> None:
    """Wait until nobody is at work, and keep it so until the end of the transaction.

    Raises OperationalError when somebody is at work for too long.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [PATIENCE])
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [DESK_LOCK])
