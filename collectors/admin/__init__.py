"""The admin pages of the collected data. What was collected is a record and cannot be changed;
what is collected, and from where, can. The other modules are its parts."""

from collectors.admin import (
    backfills,
    books,
    candles,
    collection,
    funding,
    instruments,
    keys,
    macro,
    shards,
)

__all__ = [
    "backfills",
    "books",
    "candles",
    "collection",
    "funding",
    "instruments",
    "keys",
    "macro",
    "shards",
]
