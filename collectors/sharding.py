"""How instruments are spread over the processes that stream them. Pure.

Every instrument belongs to one of a fixed number of shards, numbered from 0, and every shard to at
most one process; who holds which is for `collectors.services.shards`.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from zlib import crc32


@lru_cache(maxsize=65536)
def shard_of(coin_id: str, shards: int) -> int:
    """The shard of an instrument: the same in every process and at every start."""
    return crc32(coin_id.encode()) % shards


def fair_share(*, shards: int, processes: int) -> int:
    """How many shards one of `processes` may hold at most; together they can hold all."""
    return -(-shards // max(processes, 1))


def surplus(held: Collection[int], *, share: int) -> frozenset[int]:
    """What is to be given up of the shards held, so that no more than `share` are left."""
    return frozenset(sorted(held)[share:])
