"""A process that keeps shards and writes down, some hundred times a second, which it holds.

    python -m tests.collectors.shard_process tables            # makes the tables, for SQLite
    python -m tests.collectors.shard_process keep LOG SHARDS LEASE_S CONFIRMS

Each line of LOG is `BEFORE AFTER NUMBERS`: two readings of the clock that all processes share, and
the shards held between them.
"""

import os
import signal
import sys
import time
from datetime import timedelta

import django

SAMPLE_EVERY_S = 0.005
CONFIRM_EVERY_S = 0.2


def coin_in(number: int, shards: int) -> str:
    """A coin id of the shard."""
    from collectors.sharding import shard_of

    return next(coin for coin in map(str, range(10**6)) if shard_of(coin, shards) == number)


def keep(log: str, shards: int, lease_s: float, *, confirms: bool) -> None:
    """Keep shards until SIGTERM, or until the test is gone."""
    from collectors.services.shards import ShardKeeper

    is_over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: is_over.append(number))
    coins = {number: coin_in(number, shards) for number in range(shards)}
    keeper = ShardKeeper(shards=shards, lease=timedelta(seconds=lease_s))
    keeper.start()
    confirm_at, parent = 0.0, os.getppid()
    with open(log, "a", buffering=1) as stream:
        while not is_over and os.getppid() == parent:
            before = time.monotonic()
            held = [number for number, coin in coins.items() if keeper.holds(coin)]
            after = time.monotonic()
            stream.write(f"{before} {after} {','.join(map(str, held))}\n")
            if confirms and after >= confirm_at:
                keeper.confirm(keeper.held())
                confirm_at = after + CONFIRM_EVERY_S
            time.sleep(SAMPLE_EVERY_S)
    keeper.stop()


def make_tables() -> None:
    """Make the two tables of shards, and no others."""
    from django.db import connection

    from collectors.models import StreamProcess, StreamShard

    with connection.schema_editor() as editor:
        editor.create_model(StreamShard)
        editor.create_model(StreamProcess)


if __name__ == "__main__":
    django.setup()
    if sys.argv[1] == "tables":
        make_tables()
    else:
        keep(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), confirms=sys.argv[5] == "True")
